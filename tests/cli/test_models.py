"""`fieldgate cloud models`: asks a running cloud, wherever it is, and lays the answer out."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from cli import main
from cli.ask import url_of
from cli.models import lines
from cloud.config import CloudConfig, parse
from protocol.errors import ConfigurationRefused

REFUSED = {"version": 4, "reason": "expired"}
ROLLED_BACK, DRIFTED = {"version": 4, "reason": "worse"}, {"version": 2, "reason": "features"}
RUN = {"gateway": "barn", "version": 3, "alerts": 12, "shadow": 5, "windows": 6400, "refused": None}
MODEL = {"name": "bearing", "version": 4, "size": 1234, "digest": "0123456789abcdef", "gateways": [RUN]}
LINE = "  barn                 version 3    6,400 windows, 12 alerts, 5 in the shadow"
BODY = {"models": [MODEL], "reports": []}


class Answers(BaseHTTPRequestHandler):
    """A cloud that gives one answer to whoever has its token."""

    asked: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self) -> None:
        good = self.headers["Authorization"] in (None, "Bearer admin")
        self.answer(200 if good else 401, BODY if good else {})

    def do_POST(self) -> None:
        good = self.headers["Authorization"] == "Bearer admin"
        refused = {"error": {"what": "the admin token is needed", "where": "header Authorization", "do": "send it"}}
        self.answer(200 if good else 401, {"model": "bearing", "version": 5, "of": 3} if good else refused)

    def answer(self, status: int, body: dict[str, Any]) -> None:
        self.asked.append((self.path, self.headers["Authorization"]))
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def answering() -> Iterator[int]:
    Answers.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param({"models": []}, ["no models: no gateway has sent statistics yet"], id="none"),
        pytest.param(
            BODY,
            [
                "bearing  version 4, 1,234 bytes, 0123456789ab",
                "  barn                 version 3    6,400 windows, 12 alerts, 5 in the shadow",
            ],
            id="one",
        ),
        pytest.param(
            {
                "models": [
                    MODEL
                    | {"version": 0, "gateways": [RUN | {"version": 0, "windows": 6, "shadow": 0, "refused": REFUSED}]}
                ]
            },
            [
                "bearing  no version yet",
                "  barn                 no version   6 windows, 12 alerts, 0 in the shadow; refused version 4: expired",
            ],
            id="refused",
        ),
        pytest.param(
            {"models": [MODEL | {"gateways": [RUN | {"version": 3, "rolled_back": ROLLED_BACK, "drifted": DRIFTED}]}]},
            [
                "bearing  version 4, 1,234 bytes, 0123456789ab",
                f"{LINE}; rolled back from version 4: worse",
            ],
            id="rolled back, and drift of a version that is gone",
        ),
        pytest.param(
            {"models": [MODEL | {"gateways": [RUN | {"version": 2, "drifted": DRIFTED}]}]},
            [
                "bearing  version 4, 1,234 bytes, 0123456789ab",
                f"{LINE.replace('version 3', 'version 2')}; drifted, version 2: features",
            ],
            id="drifted",
        ),
    ],
)
def test_a_model_is_a_line_and_so_is_each_gateway(body: dict[str, Any], expected: list[str]) -> None:
    assert list(lines(body)) == expected


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        pytest.param("127.0.0.1:1", "http://127.0.0.1:1", id="loopback"),
        pytest.param("0.0.0.0:1", "http://127.0.0.1:1", id="everywhere"),
        pytest.param("[::]:1", "http://[::1]:1", id="everywhere, IPv6"),
        pytest.param("cloud.example:1", "http://cloud.example:1", id="a name"),
    ],
)
def test_a_cloud_is_asked_where_it_listens(listen: str, url: str) -> None:
    assert url_of(parse(f'data = "d"\nlisten = "{listen}"')) == url
    with pytest.raises(ConfigurationRefused, match="listen"):
        url_of(CloudConfig(data="d", listen="127.0.0.1:0"))


def test_by_configuration_it_brings_the_admin_token_along(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "admin.token").write_text("admin\n")
    with answering() as port:
        config = tmp_path / "cloud.toml"
        config.write_text(f'data = "{tmp_path}"\nlisten = "127.0.0.1:{port}"\n')
        assert main.run(["cloud", "models", str(config)]) == 0
        assert capsys.readouterr().out.startswith("bearing  version 4")
        assert main.run(["cloud", "models", f"http://127.0.0.1:{port}/", "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == BODY
    assert Answers.asked == [("/v1/models", "Bearer admin"), ("/v1/models", None)]


def test_who_does_not_answer_or_refuses_is_told_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "token").write_text("wrong")
    with answering() as port:
        url = f"http://127.0.0.1:{port}"
        assert main.run(["cloud", "models", url, "--token-file", str(tmp_path / "token")]) == 1
        assert f"{url} answered 401" in capsys.readouterr().err
    assert main.run(["cloud", "models", url]) == 1
    assert (
        capsys.readouterr().err
        == f"fieldgate: {url} does not answer ([Errno 111] Connection refused): does the cloud run?\n"
    )


@pytest.mark.parametrize(
    ("options", "path"),
    [
        pytest.param([], "/v1/rollback?model=bearing", id="to the one before"),
        pytest.param(["--to", "3"], "/v1/rollback?model=bearing&version=3", id="to a version"),
    ],
)
def test_a_model_goes_back_by_configuration_or_by_url_and_token(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], path: str
) -> None:
    token = tmp_path / "admin.token"
    token.write_text("admin\n")
    with answering() as port:
        url, config = f"http://127.0.0.1:{port}", tmp_path / "cloud.toml"
        config.write_text(f'data = "{tmp_path}"\nlisten = "127.0.0.1:{port}"\n')
        command = ["cloud", "models", "rollback", "bearing"]
        assert main.run([*command, str(config), *options]) == 0
        assert capsys.readouterr().out == "bearing: version 5 is version 3 again\n"
        assert main.run([*command, url, "--token-file", str(token), "--json", *options]) == 0
        assert json.loads(capsys.readouterr().out) == {"model": "bearing", "version": 5, "of": 3}
        assert main.run([*command, url]) == 1
        assert capsys.readouterr().err == f"fieldgate: {url} answered 401: the admin token is needed; send it\n"
    assert Answers.asked == [(path, "Bearer admin")] * 2 + [("/v1/rollback?model=bearing", None)]


def test_show_may_be_said_or_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    with answering() as port:
        for words in (["show"], []):
            assert main.run(["cloud", "models", *words, f"http://127.0.0.1:{port}"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[: len(said) // 2] == said[len(said) // 2 :]
