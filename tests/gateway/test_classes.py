"""Classifiers at work in the shell: what is said, what is reported, what is kept, and what it costs who waits."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway import classes as module
from gateway.classes import Classes
from gateway.classify import Word
from gateway.compute import Kept
from gateway.config import PipelineConfig
from gateway.derive import Derive
from gateway.records import ModelRecord
from gateway.recovery import Replayed
from gateway.segment import OsFiles
from gateway.trainer.learn import Owed
from protocol.manifest import digest_of
from tests.gateway.test_classify import BAD, GOOD, own_head, record
from tests.gateway.test_classify_windows import Row, readings
from tests.gateway.test_trainer import NAMES, device
from tests.waiting import until


class Site:
    """A gateway's classifiers, what they said, and what went up."""

    def __init__(self, data: Path, *records: ModelRecord) -> None:
        self.at = Replayed(Derive(PipelineConfig()))
        self.at.derive.define(NAMES)
        self.said, self.words, self.changes = list[dict[str, Any]](), list[Word](), 0
        self.classes = Classes(
            self.at,
            OsFiles(),
            data,
            0.02,
            publish=lambda payload: self.said.append(json.loads(payload)),
            report=self.words.append,
        )
        self.classes.on_change = self._changed
        for one in records:
            self.apply(one)

    def _changed(self) -> None:
        self.changes += 1

    def apply(self, one: ModelRecord) -> None:
        self.at.derive.feed(one)

    async def feed(self, rows: list[Row], windows: int) -> None:
        """Feed a commit, and wait until so many windows more were said."""
        before = len(self.said)
        self.classes.feed([readings(rows[: len(rows) // 2]), readings(rows[len(rows) // 2 :])])
        await until(lambda: len(self.said) == before + windows, f"{windows} windows are said")


@asynccontextmanager
async def running(site: Site) -> AsyncIterator[Site]:
    task = asyncio.create_task(site.classes.run())
    await asyncio.sleep(0)
    yield site
    task.cancel()
    await asyncio.wait([task])


async def test_what_windows_are_is_said_as_json(tmp_path: Path) -> None:
    async with running(Site(tmp_path, record(3, GOOD))) as site:
        await site.feed(device([1], each=24), 2)
        first = site.said[0]
        about = {"device": "pump", "start": 0, "end": 150, "model": "state", "version": 3, "by": "active"}
        assert first == about | {"class": first["class"], "probability": first["probability"]}
        counts = Counter(("state", str(one["class"])) for one in site.said)
        assert site.classes.standing().classified == counts
        assert site.classes.uses() == {"state": "active"}


async def test_a_model_that_is_applied_later_is_used_from_then_on(tmp_path: Path) -> None:
    async with running(Site(tmp_path)) as site:
        assert not site.classes.wanted
        site.apply(record(1, GOOD))
        assert site.classes.wanted
        await site.feed(device([1], each=24), 2)
        await until((tmp_path / "classes" / "state.fg").exists, "it is kept")


async def test_a_version_that_is_rolled_back_is_reported_and_stays_so_after_a_restart(tmp_path: Path) -> None:
    async with running(Site(tmp_path, record(1, GOOD))) as site:
        await site.feed(device([1], each=16), 1)
        site.apply(record(2, BAD))
        site.classes.feed([readings([(s, t + 10_000, v) for s, t, v in device([0, 1, 2] * 8, seed=9)])])
        await until(lambda: len(site.words) == 2, "it is rolled back")
        assert [(word.version, word.outcome) for word in site.words] == [(2, "rolled back"), (1, "applied")]
        assert site.changes > 0
    async with running(Site(tmp_path, record(1, GOOD), record(2, BAD))) as again:
        await again.feed(device([1], each=16), 1)
        assert (again.said[0]["version"], again.said[0]["by"]) == (1, "previous")
        assert again.classes.standing().used["state", "previous"] == 1


async def test_a_head_that_the_train_task_kept_is_found_when_it_ends_and_after_a_restart(tmp_path: Path) -> None:
    async with running(Site(tmp_path, record(1, BAD))) as site:
        await site.feed(device([1], each=16), 1)
        kept = Kept("state.1.1", 1, b"", msgspec.msgpack.encode(Owed(heads=(own_head(),))))
        (tmp_path / "tasks").mkdir()
        (tmp_path / "tasks" / "state.fg").write_bytes(msgspec.msgpack.encode(kept))
        site.classes.trained("state")
        await until(lambda: site.classes.uses() == {"state": "personal"}, "the head is used")
    async with running(Site(tmp_path, record(1, BAD))) as again:
        await again.feed(device([1], each=16), 1)
        assert (again.said[0]["by"], again.classes.uses()) == ("personal", {"state": "personal"})


async def test_what_waits_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_READINGS", 40)
    async with running(Site(tmp_path, record(1, GOOD))) as site:
        rows = device([1], each=16)
        site.classes.feed([readings(rows), readings(rows)])
        await until(lambda: len(site.said) == 1, "the first are classified")
        assert site.classes.standing().left_out == {"busy": len(rows)}


async def test_others_have_their_turn_between_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 1)
    async with running(Site(tmp_path, record(1, GOOD))) as site:
        site.classes.feed([readings(device([0, 1, 2]))])
        seen = set[int]()

        def all_said() -> bool:
            seen.add(len(site.said))
            return len(site.said) == 23

        await until(all_said, "all are said", every=0)
        assert len(seen) > 10


@pytest.mark.parametrize("content", [b"junk", b""], ids=["junk", "empty"])
async def test_what_was_kept_and_cannot_be_read_is_left(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "classes").mkdir()
    (tmp_path / "classes" / "state.fg").write_bytes(content)
    async with running(Site(tmp_path, record(1, GOOD))) as site:
        await site.feed(device([1], each=16), 1)
        assert site.classes.classify.lines["state"].active.digest == digest_of(GOOD)
