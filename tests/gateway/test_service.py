"""What a service is handed, the line about it, and what of a gateway stalls."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import msgspec
import pytest

from gateway import config, recovery
from gateway.clock import Clock
from gateway.config import Broker, GatewayConfig, Source
from gateway.delivery import SILENCE_NS, Send
from gateway.pipeline import Pipeline
from gateway.records import Arrivals
from gateway.reload import Secrets
from gateway.segment import Files, OsFiles
from gateway.service import Bulletin, Course, rounded, secret
from protocol.errors import ConfigurationRefused
from protocol.messages import LANES, LaneHead, Welcome
from protocol.notify import Work
from tests.faults.disk import FaultyFiles

S = 10**9

# Secrets.


def test_a_secret_comes_from_its_file_or_its_variable_without_the_line_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("from a file\n")
    monkeypatch.setenv("FIELDGATE_TOKEN", "from a variable\n")
    assert secret("uplink", "token", file=str(tmp_path / "token"), env="") == "from a file"
    assert secret("uplink", "token", file="", env="FIELDGATE_TOKEN") == "from a variable"
    assert secret("uplink", "token", file="", env="") is None


@pytest.mark.parametrize(
    ("file", "env", "key"),
    [("/nowhere/token", "", "uplink.token_file"), ("", "FIELDGATE_ABSENT", "uplink.token_env")],
    ids=["file", "variable"],
)
def test_a_secret_that_is_absent_is_refused_by_its_key(file: str, env: str, key: str) -> None:
    with pytest.raises(ConfigurationRefused) as refused:
        secret("uplink", "token", file=file, env=env)
    assert refused.value.key == key


@pytest.mark.parametrize(
    ("content", "expectation"),
    [
        (b"\xff\xfe", "a file of text"),
        (b"", "one line of printable text in it, and it is empty"),
        (b" \n", "one line of printable text in it, and it is empty"),
        (b"one\ntwo\n", "one line of printable text in it"),
        (b"a\x00b", "one line of printable text in it"),
    ],
    ids=["bytes", "empty", "blank", "two lines", "a control character"],
)
def test_a_file_that_holds_no_secret_is_refused_and_its_content_is_not_said(
    content: bytes, expectation: str, tmp_path: Path
) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)
    with pytest.raises(ConfigurationRefused) as refused:
        secret("uplink", "token", file=str(path), env="")
    assert str(refused.value) == f"uplink.token_file = {str(path)!r}: expected {expectation}"


# The line.

BEGAN = Course(recorded=100, windows=10, frames=0, broker=True, cloud=True)


@pytest.mark.parametrize(
    ("course", "line"),
    [
        (BEGAN, "0 readings/s, 0 windows/s, broker connected, cloud connected, frames waiting: 0"),
        (
            BEGAN._replace(recorded=62_340, windows=35, frames=1_234),
            "12,000 readings/s, 5 windows/s, broker connected, cloud connected, frames waiting: 1,234",
        ),
        (
            BEGAN._replace(broker=False, cloud=False, frames=1),
            "0 readings/s, 0 windows/s, broker away, cloud away, frames waiting: 1",
        ),
        (BEGAN._replace(cloud=None, windows=11), "0 readings/s, 0.2 windows/s, broker connected"),
    ],
    ids=["idle", "busy", "both away", "alone"],
)
def test_five_seconds_of_a_gateway_make_one_line(course: Course, line: str) -> None:
    assert Bulletin(BEGAN, 0).feed(course, 5 * S) == line


def test_rates_are_those_since_the_line_before() -> None:
    bulletin = Bulletin(BEGAN, 0)
    bulletin.feed(BEGAN._replace(recorded=1_100), 5 * S)
    assert bulletin.feed(BEGAN._replace(recorded=1_150), 10 * S).startswith("10 readings/s")


@pytest.mark.parametrize(
    ("rate", "text"),
    [(0.0, "0"), (0.04, "0"), (0.25, "0.2"), (9.96, "10"), (99.4, "99"), (1_249.0, "1,200"), (378_123.0, "380,000")],
)
def test_a_rate_is_said_in_two_digits(rate: float, text: str) -> None:
    assert rounded(rate) == text


# What stalls.


def works(intake: bool = False, journal: bool = False, spool: bool = False) -> list[tuple[str, bool]]:
    return [("intake", intake), ("journal", journal), ("spool", spool)]


def waiting(pipeline: Pipeline) -> list[tuple[str, bool]]:
    return [(work.name, work.waiting) for work in pipeline.works()]


def done(pipeline: Pipeline) -> dict[str, int]:
    return {work.name: work.done for work in pipeline.works()}


@asynccontextmanager
async def opened(directory: Path, files: Files | None = None, url: str = "") -> AsyncIterator[Pipeline]:
    """A gateway whose tasks do not run: the test does what they would."""
    settings = GatewayConfig(
        "edge",
        str(directory / "data"),
        (Source("s/{device}/{measurement}", format="number"),),
        Broker("mqtt://127.0.0.1:1"),
        uplink=config.Uplink(url=url, token_env="T" if url else ""),
    )
    stored = recovery.recover(settings, files or OsFiles(), 1, lambda: 7)
    pipeline = Pipeline(settings, stored, Clock(stored.at.stamp))
    pipeline.connect(Secrets(uplink="secret" if url else None), Random(1))
    pipeline.inward.begin()
    await pipeline.commit()
    await pipeline.out.spool_now(flush=True)
    try:
        yield pipeline
    finally:
        pipeline.stop()
        await pipeline.finish()


def one_reading() -> Arrivals:
    return Arrivals(["s/a/t"], [b"21.5"], [1], [0], None, 1)


async def test_of_an_idle_gateway_whose_broker_and_cloud_are_away_nothing_waits(tmp_path: Path) -> None:
    async with opened(tmp_path, url="http://127.0.0.1:1") as pipeline:
        assert waiting(pipeline) == [*works(), ("delivery", False)]


async def test_a_reading_waits_for_intake_then_for_the_journal_and_what_it_brings_for_the_spool(tmp_path: Path) -> None:
    async with opened(tmp_path) as pipeline:
        began = done(pipeline)
        pipeline.inward.arrived(one_reading())
        assert waiting(pipeline) == works(intake=True)
        pipeline.inward.close_record()
        assert (waiting(pipeline), done(pipeline)["journal"]) == (works(journal=True), began["journal"])
        assert done(pipeline)["intake"] > began["intake"]
        await pipeline.commit()
        assert (waiting(pipeline), done(pipeline)["journal"]) == (works(spool=True), began["journal"] + 1)
        await pipeline.out.spool_now()
        assert (waiting(pipeline), done(pipeline)["spool"]) == (works(), began["spool"] + 1)


async def test_a_commit_that_the_disk_refuses_is_no_stall(tmp_path: Path) -> None:
    disk = FaultyFiles()
    async with opened(tmp_path, disk) as pipeline:
        began = done(pipeline)["journal"]
        pipeline.inward.arrived(one_reading())
        disk.faults = {("write", disk.calls["write"] + 1): 5}
        assert not await pipeline.commit()
        assert (waiting(pipeline), done(pipeline)["journal"]) == (works(journal=True), began + 1)


async def test_a_spool_that_the_disk_refuses_is_no_stall(tmp_path: Path) -> None:
    disk = FaultyFiles()
    async with opened(tmp_path, disk) as pipeline:
        began = done(pipeline)["spool"]
        pipeline.out.gone("telemetry", 1, 2)
        disk.faults = {("write", disk.calls["write"] + 1): 5}
        assert not await pipeline.out.spool_now()
        assert (waiting(pipeline), done(pipeline)["spool"]) == (works(spool=True), began + 1)


async def test_frames_in_flight_wait_for_a_receipt_for_longer_than_a_silent_cloud_may_take(tmp_path: Path) -> None:
    async with opened(tmp_path, url="http://127.0.0.1:1") as pipeline:
        uplink = pipeline.out.uplink
        assert uplink is not None
        uplink.delivery.opened(Welcome({}), dict.fromkeys(LANES, LaneHead(1, 2, 0)), 0)
        uplink.delivery.sent(Send("definitions", "definitions", 1), 100, 0)
        assert not pipeline.works()[-1].waiting  # not connected: the back-off's turn
        uplink.connected = True
        assert pipeline.works()[-1] == Work("delivery", True, 0, "frames are in flight and stay there", SILENCE_NS)


async def test_an_intake_that_is_held_waits_for_a_commit(tmp_path: Path) -> None:
    async with opened(tmp_path) as pipeline:
        settings = config.Journal(max_pending=config.Size(0))
        pipeline.inward.config = msgspec.structs.replace(pipeline.config, journal=settings)
        pipeline.inward.arrived(one_reading())
        pipeline.inward.close_record()
        assert waiting(pipeline) == works(intake=True, journal=True)
        await pipeline.commit()
        assert waiting(pipeline) == works(spool=True)
