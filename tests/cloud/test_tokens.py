"""A token speaks for one gateway; only hashes decide; the files are their owner's alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloud.tokens import Tokens
from protocol.errors import ConfigurationRefused
from protocol.identity import verify


def test_the_first_start_makes_key_and_tokens_for_their_owner_alone(tmp_path: Path) -> None:
    tokens = Tokens.open(tmp_path / "data")
    files = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "data").iterdir()}
    assert files == dict.fromkeys(("admin.token", "gateway-1.token", "signing.key", "tokens.json"), 0o600)
    assert tokens.fresh
    assert not Tokens.open(tmp_path / "data").fresh


def test_tokens_are_known_again_after_a_restart_and_stand_nowhere_in_the_hashes(tmp_path: Path) -> None:
    Tokens.open(tmp_path)
    tokens = Tokens.open(tmp_path)
    token = tokens.token_file("gateway-1").read_text().strip()
    admin = tokens.token_file("admin").read_text().strip()
    assert (tokens.gateway_of(token), tokens.is_admin(token)) == ("gateway-1", False)
    assert (tokens.gateway_of(admin), tokens.is_admin(admin)) == (None, True)
    assert token not in (tmp_path / "tokens.json").read_text()


def test_a_token_issued_by_another_process_counts_at_once_and_replaces_the_old_one(tmp_path: Path) -> None:
    here = Tokens.open(tmp_path)
    old = here.token_file("gateway-1").read_text().strip()
    there = Tokens.open(tmp_path)
    second, new = there.issue("gateway-2"), there.issue("gateway-1")
    assert [here.gateway_of(token) for token in (second, new, old, "")] == ["gateway-2", "gateway-1", None, None]


@pytest.mark.parametrize("name", ["", "admin", "cloud", "../x", "a b", "a" * 64])
def test_a_name_that_is_no_gateways_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationRefused):
        Tokens.open(tmp_path).issue(name)


def test_a_damaged_file_of_hashes_is_refused_and_named(tmp_path: Path) -> None:
    Tokens.open(tmp_path)
    (tmp_path / "tokens.json").write_text("{")
    with pytest.raises(ConfigurationRefused, match=r"tokens\.json"):
        Tokens.open(tmp_path)


def test_a_damaged_signing_key_is_refused_and_named(tmp_path: Path) -> None:
    tokens = Tokens.open(tmp_path)
    (tmp_path / "signing.key").write_text("-----BEGIN PRIVATE KEY-----\n")
    with pytest.raises(ConfigurationRefused, match=r"signing\.key"):
        tokens.signer()


def test_a_full_disk_is_told_with_the_file_that_did_not_fit(tmp_path: Path) -> None:
    (tmp_path / "admin.token.part").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device") as error:
        Tokens.open(tmp_path)
    assert error.value.filename == str(tmp_path / "admin.token")


def test_the_signing_key_stays_the_same(tmp_path: Path) -> None:
    public = Tokens.open(tmp_path).signer().public
    assert verify(public, b"manifest", Tokens.open(tmp_path).signer().sign(b"manifest"))
