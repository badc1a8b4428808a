"""What `[bus]` names is found or refused by its key, before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloud.bus import connect
from cloud.config import Bus
from protocol.errors import ConfigurationRefused


def test_a_password_is_read_from_its_file_or_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "password").write_text("from a file\n")
    monkeypatch.setenv("BUS_PASSWORD", " from a variable ")
    settings = [
        Bus(url="mqtt://a"),
        Bus(url="mqtt://a", password_file=str(tmp_path / "password")),
        Bus(url="mqtt://a", password_env="BUS_PASSWORD"),
    ]
    assert [connect(one)._password for one in settings] == [None, "from a file", "from a variable"]


@pytest.mark.parametrize(
    ("key", "value"), [("password_file", "nowhere"), ("password_env", "NO_SUCH_VARIABLE")], ids=["file", "variable"]
)
def test_a_password_that_is_not_there_is_refused(key: str, value: str) -> None:
    with pytest.raises(ConfigurationRefused) as refused:
        connect(Bus(url="mqtt://a", **{key: value}))
    assert (refused.value.key, refused.value.value) == (f"bus.{key}", value)


@pytest.mark.parametrize("key", ["ca_file", "cert_file"])
def test_certificates_that_are_none_are_refused(key: str, tmp_path: Path) -> None:
    path = tmp_path / "none.pem"
    path.write_text("nothing")
    with pytest.raises(ConfigurationRefused) as refused:
        connect(Bus(url="mqtts://a", **{key: str(path)}))
    assert (refused.value.key, refused.value.value) == (f"bus.{key}", str(path))


def test_tls_is_spoken_where_the_address_says_so() -> None:
    assert [connect(Bus(url=url))._tls is not None for url in ("mqtt://a", "mqtts://a")] == [False, True]
