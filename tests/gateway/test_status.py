"""A gateway's own word about itself: read at the moment somebody asks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import aiohttp
import pytest
import pytest_asyncio

from gateway.classes import Standing
from gateway.derive import Totals
from gateway.records import Tally
from gateway.reload import Reloads
from gateway.score import Progress
from gateway.status import Status
from gateway.vitals import Vitals
from protocol.errors import ConfigurationRefused
from protocol.messages import LANES

WELL = Vitals(
    totals=Totals(
        tally=Tally(messages=12, decoded=9, redelivered=1, dead={"json": 2}, refused={"series_limit": 3}),
        recorded=20,
        removed={"range": 4, "duplicate": 1},
        late=5,
        windowed=7,
        windows=2,
        alerts=3,
        shadow={"pumps": 2},
        scored=50,
        unscored={"missing": 6},
        unusable={"content": 2},
    ),
    unread={"malformed": 1, "too_large": 0},
    pending=3,
    frames_sent=40,
    frames_receipted=39,
    cloud_connected=True,
    journal_bytes=1000,
    journal_pending=300,
    journal_written=2000,
    spool_frames=dict.fromkeys(LANES, 0) | {"telemetry": 6},
    spool_bytes=dict.fromkeys(LANES, 0) | {"telemetry": 600},
    lacking=[],
    progress=Progress(3, 7, 12, 60),
    models={"pumps": 4, "fans": 1},
    models_refused={"older": 2, "signature": 1},
    broker_drops=40,
    disk=(5000, 6000),
    budget=(70, 80),
    journal_dropped={"disk_low": 90},
    frames_dropped={("telemetry", "budget"): 6, ("results", "disk_low"): 7},
    classes=Standing(
        {("state", "0"): 8, ("state", "2"): 9},
        {"busy": 4},
        {("state", "active"): 0, ("state", "personal"): 1},
        {("state", "active"): 0.75},
        {("state", "features"): 2},
    ),
    reloads=Reloads(1_700_000_000 * 10**9, 250_000_000, outcomes={"applied": 2, "refused": 1, "unchanged": 0}),
)


class Face:
    """A status that is served, and the vitals it reads."""

    def __init__(self) -> None:
        self.vitals = WELL
        self.status = Status(lambda: self.vitals)
        self.url = ""

    async def get(self, path: str) -> tuple[int, str]:
        async with aiohttp.ClientSession() as session, session.get(self.url + path) as answer:
            return answer.status, await answer.text()

    async def samples(self) -> dict[str, float]:
        _, text = await self.get("/metrics")
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


@pytest_asyncio.fixture
async def face() -> AsyncIterator[Face]:
    served = Face()
    await served.status.listen("127.0.0.1:0")
    assert served.status.address is not None
    served.url = "http://{}:{}".format(*served.status.address)
    yield served
    await served.status.close()


async def test_metrics_say_every_count_by_its_fixed_name(face: Face) -> None:
    samples = await face.samples()
    assert {name: value for name, value in samples.items() if "fsync" not in name} == {
        "fieldgate_messages_received_total": 13,
        "fieldgate_messages_decoded_total": 9,
        "fieldgate_messages_redelivered_total": 1,
        'fieldgate_messages_dead_total{cause="json"}': 2,
        'fieldgate_messages_dead_total{cause="malformed"}': 1,
        "fieldgate_readings_recorded_total": 20,
        'fieldgate_readings_dropped_total{reason="range"}': 4,
        'fieldgate_readings_dropped_total{reason="duplicate"}': 1,
        'fieldgate_readings_dropped_total{reason="series_limit"}': 3,
        'fieldgate_readings_dropped_total{reason="late"}': 5,
        'fieldgate_readings_dropped_total{reason="broker"}': 40,
        "fieldgate_readings_windowed_total": 7,
        "fieldgate_readings_pending": 3,
        "fieldgate_windows_closed_total": 2,
        "fieldgate_alerts_total": 3,
        'fieldgate_alerts_shadow_total{model="pumps"}': 2,
        "fieldgate_windows_scored_total": 50,
        'fieldgate_windows_unscored_total{reason="missing"}': 6,
        'fieldgate_score_groups{state="warming"}': 3,
        'fieldgate_score_groups{state="scoring"}': 7,
        "fieldgate_score_windows_seen": 12,
        "fieldgate_score_windows_needed": 60,
        'fieldgate_model_version{model="pumps"}': 4,
        'fieldgate_model_version{model="fans"}': 1,
        'fieldgate_models_refused_total{reason="older"}': 2,
        'fieldgate_models_refused_total{reason="signature"}': 1,
        'fieldgate_models_unusable_total{reason="content"}': 2,
        'fieldgate_windows_classified_total{class="0",model="state"}': 8,
        'fieldgate_windows_classified_total{class="2",model="state"}': 9,
        'fieldgate_classify_left_out_total{reason="busy"}': 4,
        'fieldgate_classifier_used{by="active",model="state"}': 0,
        'fieldgate_classifier_used{by="personal",model="state"}': 1,
        'fieldgate_classifier_accuracy{by="active",model="state"}': 0.75,
        'fieldgate_classifier_drifts_total{model="state",what="features"}': 2,
        "fieldgate_frames_sent_total": 40,
        "fieldgate_frames_receipted_total": 39,
        "fieldgate_cloud_connected": 1,
        "fieldgate_journal_bytes": 1000,
        "fieldgate_journal_pending_bytes": 300,
        "fieldgate_journal_written_bytes_total": 2000,
        **{f'fieldgate_spool_frames{{lane="{lane}"}}': 6 * (lane == "telemetry") for lane in LANES},
        **{f'fieldgate_spool_bytes{{lane="{lane}"}}': 600 * (lane == "telemetry") for lane in LANES},
        "fieldgate_uplink_spent_bytes": 70,
        "fieldgate_uplink_budget_bytes": 80,
        'fieldgate_frames_dropped_total{cause="budget",lane="telemetry"}': 6,
        'fieldgate_frames_dropped_total{cause="disk_low",lane="results"}': 7,
        "fieldgate_disk_free_bytes": 5000,
        "fieldgate_disk_floor_bytes": 6000,
        'fieldgate_journal_dropped_bytes_total{cause="disk_low"}': 90,
        'fieldgate_reloads_total{outcome="applied"}': 2,
        'fieldgate_reloads_total{outcome="refused"}': 1,
        'fieldgate_reloads_total{outcome="unchanged"}': 0,
        "fieldgate_reload_seconds": 0.25,
        "fieldgate_reload_timestamp_seconds": 1_700_000_000,
    }


async def test_metrics_are_read_when_they_are_asked_for(face: Face) -> None:
    await face.samples()
    face.vitals = replace(WELL, frames_sent=41)
    assert (await face.samples())["fieldgate_frames_sent_total"] == 41


async def test_a_sync_is_counted_where_its_time_belongs(face: Face) -> None:
    for seconds in (0.004, 0.005, 9.0):
        face.status.fsync.observe(seconds)
    samples = await face.samples()
    syncs = {name: value for name, value in samples.items() if "fsync" in name and value}
    bucket = "fieldgate_journal_fsync_seconds_bucket"
    bounds = ("0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "2.5")
    assert syncs == {
        **{f'{bucket}{{le="{bound}"}}': 2 for bound in bounds},
        f'{bucket}{{le="+Inf"}}': 3,
        "fieldgate_journal_fsync_seconds_count": 3,
        "fieldgate_journal_fsync_seconds_sum": 9.009,
    }


async def test_a_gateway_that_lacks_something_lives_and_is_not_ready(face: Face) -> None:
    assert await face.get("/readyz") == (200, "ready\n")
    face.vitals = replace(WELL, lacking=["intake: not connected to the broker", "journal: the last commit failed"])
    assert await face.get("/readyz") == (
        503,
        "intake: not connected to the broker\njournal: the last commit failed\n",
    )
    assert await face.get("/livez") == (200, "alive\n")


async def test_an_address_that_is_taken_is_refused_by_its_key_and_the_old_one_stays(face: Face) -> None:
    taken = face.url.removeprefix("http://")
    with pytest.raises(ConfigurationRefused) as refused:
        await Status(lambda: WELL).listen(taken)
    expected = f"http.listen = '{taken}': expected an address that is free and ours (Address already in use)"
    assert str(refused.value) == expected
    assert (await face.get("/livez"))[0] == 200
