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
from cli.models import lines, url_of
from cloud.config import CloudConfig, parse
from protocol.errors import ConfigurationRefused

REFUSED = {"version": 4, "reason": "expired"}
RUN = {"gateway": "barn", "version": 3, "alerts": 12, "shadow": 5, "windows": 6400, "refused": None}
MODEL = {"name": "bearing", "version": 4, "size": 1234, "digest": "0123456789abcdef", "gateways": [RUN]}
BODY = {"models": [MODEL], "reports": []}


class Answers(BaseHTTPRequestHandler):
    """A cloud that gives one answer to whoever has its token."""

    asked: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers["Authorization"]))
        self.send_response(200 if self.headers["Authorization"] in (None, "Bearer admin") else 401)
        self.end_headers()
        self.wfile.write(json.dumps(BODY).encode())

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
