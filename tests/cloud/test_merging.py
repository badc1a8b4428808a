"""Parts become a result in processes of their own; a bad part is left out and named."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cloud.compute.pool import Pool
from cloud.jobs import Question
from cloud.merging import GROUP, Merging, Read, conclude, merge
from learning.work import Batch, registry
from protocol.errors import StoreUnavailable

MOMENTS = registry.find("moments")
PACKED = registry.pack_params(MOMENTS, {})
WHAT = Question("moments", MOMENTS.version, ("*",), 0, 0, PACKED)


def part(*values: float) -> bytes:
    value = np.array(values)
    batch = Batch(["pump/x"], np.zeros(len(value), np.int32), np.arange(len(value)), value)
    return MOMENTS.map([batch], registry.read_params(MOMENTS, PACKED))


def reading(parts: dict[str, bytes]) -> Read:
    async def read(name: str) -> bytes | None:
        return parts.get(name)

    return read


@pytest.fixture
def merging() -> Merging:
    return Merging(Pool(1))


async def test_more_parts_than_a_group_become_one_result_and_what_is_nobodys_is_named(merging: Merging) -> None:
    parts = {f"g{number:03}": part(float(number)) for number in range(GROUP + 6)} | {"odd": b"nobody's"}
    found = await merging.merge(WHAT, list(parts), reading(parts))
    groups = json.loads(found.result)["groups"]
    assert (found.reason, found.refused) == ("", ("odd",))
    assert groups["pump/x"]["count"] == GROUP + 6
    assert groups["pump/x"]["mean"] == pytest.approx((GROUP + 5) / 2)


async def test_answers_that_are_not_there_are_the_stores_fault(merging: Merging) -> None:
    with pytest.raises(StoreUnavailable):
        await merging.merge(WHAT, ["barn"], reading({}))


def test_only_bad_parts_merge_to_nothing() -> None:
    assert merge(WHAT, [b"x", b"y"]) == (b"", [0, 1])
    assert conclude(WHAT, b"x")[1].startswith("result: part")


async def test_work_that_is_not_installed_costs_only_its_job(merging: Merging) -> None:
    unknown = Question("nothing", 1, ("*",), 0, 0, b"\x80")
    found = await merging.merge(unknown, ["barn"], reading({"barn": b"x"}))
    assert "no work 'nothing'" in found.reason
