"""`fieldgate cloud ledger`: what is missing, in words and by the exit code."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from cli import main
from cli.ledger import lines, missing
from cloud.app import API, create_app
from cloud.config import parse
from protocol.messages import Loss
from tests.cloud.wire import Clock, S, Wire

HOUR = 3600 * S
NOON = 1_764_000_000 * S
"""2025-11-24 16:00:00 UTC."""

LANE = {"gateway": "barn", "epoch": "0a", "lane": "telemetry", "holes": [], "received": 12_345, "duplicate": 3}
LANE |= {"quarantined": 0, "dropped_frames": 0, "causes": [], "queued": 0, "since": 0}
EPOCH = {"epoch": "0a", "began": NOON - HOUR, "fork": "", "remark": "", "remarked": 0}
ACCOUNT = {"gateway": "barn", "online": True, "last_seen": NOON, "epoch": "0a", "counts": {}, "epochs": [EPOCH]}
FULL = {"cause": "spool_full", "frames": 980, "oldest": NOON - HOUR, "newest": NOON - 60 * S, "stored": NOON - 30 * S}
CAUSES = [FULL, {"cause": "gone", "frames": 1, "oldest": 0, "newest": NOON, "stored": NOON - HOUR}]


def body(*lanes: dict[str, Any], **account: Any) -> dict[str, Any]:
    return {"ledger": [LANE | lane for lane in lanes], "gateways": [ACCOUNT | account], "now": NOON}


def test_a_gateway_is_a_heading_and_a_lane_a_line() -> None:
    found = body(
        {"lane": "alerts", "received": 2, "duplicate": 0},
        {
            "holes": [(41, 44), (50, 50), (60, 61), (70, 71), (80, 81)],
            "causes": CAUSES,
            "dropped_frames": 981,
            "queued": 1234,
            "since": NOON - 90 * S,
        },
        counts={"broker": 40, "recorded": 7, "frames.alerts.damaged": 1},
    )
    assert list(lines(found)) == [
        "barn  online",
        "  epoch 0a, since 2025-11-24 15:00:00 UTC",
        "    lane       received  duplicate  quarantined  holes  dropped  waiting  oldest",
        "    alerts            2          0            0      0        0        0       -",
        "    telemetry    12,345          3            0     11      981    1,234    90 s",
    ]
    assert missing(found) == [
        "barn: telemetry: 11 frames not here yet: 41 to 44, 50, 60 to 61 and 2 more",
        "barn: telemetry: 980 frames dropped, spool_full, spooled 2025-11-24 15:00:00 UTC to 2025-11-24 15:59:00 UTC",
        "barn: telemetry: 1 frame dropped, gone, spooled before 2025-11-24 16:00:00 UTC",
        "barn: its broker dropped 40 messages, of this or other clients",
        "barn: alerts: 1 frame lost with an earlier epoch, damaged",
    ]


def test_an_epoch_that_is_not_in_use_has_no_holes_and_nothing_waits_in_it() -> None:
    lane = {"epoch": "09", "holes": [(1, 2)], "queued": 5, "since": NOON}
    found = body(lane, lane | {"lane": "alerts", "received": 0}, online=False)
    found["gateways"][0]["epochs"] = [EPOCH, EPOCH | {"epoch": "09", "remark": "copied"}]
    assert list(lines(found)) == [
        "barn  offline, last heard of 2025-11-24 16:00:00 UTC",
        "  epoch 0a, since 2025-11-24 15:00:00 UTC",
        "  epoch 09, not in use; it began 2025-11-24 15:00:00 UTC",
        "    lane       received  duplicate  quarantined  holes  dropped  waiting  oldest",
        "    telemetry    12,345          3            0      -        0        -       -",
    ]


def test_where_nobody_has_called_there_is_nothing() -> None:
    nothing = {"ledger": [], "gateways": [], "now": NOON}
    assert (list(lines(nothing)), missing(nothing)) == (["nothing yet: no gateway has called"], [])


@pytest.mark.parametrize(
    ("found", "within", "expected"),
    [
        pytest.param(body({}), None, [], id="nothing"),
        pytest.param(body({"queued": 9, "since": NOON}), None, [], id="what waits on the gateway is not missing"),
        pytest.param(body({"epoch": "09", "holes": [(1, 2)]}), None, [], id="an ended epoch has no holes"),
        pytest.param(
            body({"holes": [(1, 2)]}), HOUR, ["barn: telemetry: 2 frames not here yet: 1 to 2"], id="a hole, always"
        ),
        pytest.param(
            body({"epoch": "09", "causes": CAUSES[1:]}),
            None,
            ["barn: telemetry: 1 frame dropped, gone, spooled before 2025-11-24 16:00:00 UTC"],
            id="a loss, of any epoch",
        ),
        pytest.param(body({"causes": CAUSES[1:]}), 600 * S, [], id="a loss that was declared before that time"),
        pytest.param(
            body({"causes": [FULL | {"oldest": 0, "newest": 0}]}),
            600 * S,
            ["barn: telemetry: 980 frames dropped, spool_full"],
            id="a loss that was declared in that time",
        ),
        pytest.param(
            body({"quarantined": 2}),
            None,
            ["barn: telemetry: 2 frames not understood; /v1/quarantine says why"],
            id="quarantined",
        ),
        pytest.param(
            body(counts={"broker": 1}),
            None,
            ["barn: its broker dropped 1 messages, of this or other clients"],
            id="the broker's",
        ),
        pytest.param(body({"quarantined": 2}, counts={"broker": 1}), HOUR, [], id="what has no time, in a time"),
        pytest.param(
            body(epochs=[EPOCH | {"remark": "copied", "remarked": NOON - S}]),
            HOUR,
            ["barn: epoch 0a: copied"],
            id="copy",
        ),
        pytest.param(body(epochs=[EPOCH | {"fork": "forked", "remarked": S}]), HOUR, [], id="a fork of long ago"),
    ],
)
def test_what_is_missing_is_said_in_a_line_each(found: dict[str, Any], within: int | None, expected: list[str]) -> None:
    assert missing(found, within) == expected


@contextmanager
def cloud_running(tmp_path: Path, port: int, wire: Wire, *frames: Any) -> Iterator[Path]:
    """A cloud in a thread, which has heard a gateway; its configuration."""
    path = tmp_path / "cloud.toml"
    path.write_text(f'data = "{tmp_path}/data"\nlisten = "127.0.0.1:{port}"\n')
    ready, loop = threading.Event(), asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        app = create_app(parse(path.read_text()), clock=Clock(NOON))
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        await app[API].store.hello(wire.hello(), NOON)
        await app[API].store.apply(wire.batch(*frames))
        ready.set()
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=loop.run_until_complete, args=[serve()])
    thread.start()
    try:
        assert ready.wait(20)
        yield path
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


def test_a_script_notices_by_the_exit_code_and_finds_the_rest_as_json(
    tmp_path: Path, free_port: Callable[[], int], capsys: pytest.CaptureFixture[str]
) -> None:
    wire = Wire()
    loss = wire.losses(Loss("telemetry", 1, 4, "spool_full", NOON - HOUR, NOON - S))
    with cloud_running(tmp_path, free_port(), wire, wire.definitions(), loss) as config:
        assert main.run(["cloud", "ledger", str(config)]) == 1
        said = capsys.readouterr().out.splitlines()
        assert said[-1].startswith("barn: telemetry: 4 frames dropped, spool_full, spooled 2025-11-24 15:00:00 UTC to")
        assert main.run(["cloud", "ledger", str(config), "--json", "--gateway", "barn"]) == 1
        found = json.loads(capsys.readouterr().out)
        assert found["missing"] == said[-1:]
        assert {lane["lane"]: lane["dropped_frames"] for lane in found["ledger"]}["telemetry"] == 4
        assert main.run(["cloud", "ledger", str(config), "--gateway", "shed"]) == 1
        assert capsys.readouterr().err == "Error: no gateway shed has called\n"
        assert main.run(["cloud", "ledger", str(config), "--since", "soon"]) == 2
        assert "--since" in capsys.readouterr().err


def test_where_nothing_is_missing_the_exit_code_is_0(
    tmp_path: Path, free_port: Callable[[], int], capsys: pytest.CaptureFixture[str]
) -> None:
    wire = Wire()
    with cloud_running(tmp_path, free_port(), wire, wire.definitions()) as config:
        assert main.run(["cloud", "ledger", str(config), "--since", "1d"]) == 0
        assert capsys.readouterr().out.endswith("\n\nnothing is missing\n")
