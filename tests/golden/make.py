"""Makes the golden frames: one `v1/{kind}.frame` per kind, and beside it `v1/{kind}.json`, what it must decode to.
A kind that has grown new fields has a second one, `v1/{kind}-2.frame`.

    PYTHONPATH=. python tests/golden/make.py

They were made once, by the version that first wrote these bytes, and every later version must read them. So what is
there already is never written again: a kind that is new gets its file, and a format that changes gets a new folder.
Floats stand as text, since JSON has no -0.0 that survives every reader, and no NaN.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from gateway import records
from gateway.journal import encode_record
from gateway.segment.layout import Opening, encode_opening
from protocol import columns, frame, manifest
from protocol.identity import Signer
from protocol.messages import (
    JOURNAL_LANE,
    Alert,
    AlertsBody,
    AnswerBody,
    Cover,
    DefinitionsBody,
    Hello,
    Kind,
    LaneHead,
    Loss,
    LossesBody,
    Mark,
    Moments,
    PartBody,
    QuestionsBody,
    Receipt,
    Refusal,
    ReportBody,
    SeriesDefinition,
    StatisticsBody,
    Welcome,
    WindowDefinition,
    WindowRows,
    WindowsBody,
)

FOLDER = Path(__file__).resolve().parent / "v1"
START = 1_764_000_000 * 10**9

MESSAGES: list[tuple[Kind, int, msgspec.Struct]] = [
    (
        Kind.DEFINITIONS,
        0,
        DefinitionsBody(
            Cover(3, 1),
            [SeriesDefinition(0, "pump-1/temperature"), SeriesDefinition(1, "Pumpe-Süd/Öldruck")],
            [WindowDefinition(0, "9f2c", 10**10, 10**10), WindowDefinition(1, "77aa", 6 * 10**10, 10**10)],
        ),
    ),
    (Kind.ALERTS, 1, AlertsBody(Cover(4, 0), [Alert([0, 1], START, 2, START + 5, 0.875, "level", 7)], "boot-1")),
    (
        Kind.LOSSES,
        2,
        LossesBody(Cover(5, 2), [Loss("telemetry", 10, 19, "spool_full", START, START + 9)], {"recorded": 1000}),
    ),
    (
        Kind.STATISTICS,
        2,
        StatisticsBody(
            Cover(7, 1),
            "pumps",
            START,
            [Moments(["Öldruck", "temperature"], 61, [1.5, -0.25], [2.0, 0.5, 0.5, 1e-300])],
            alerts=2,
            shadow=1,
            version=3,
        ),
    ),
    (Kind.REPORT, 2, ReportBody(Cover(7, 1), "pumps", 4, "refused", "expired", "ab" * 32, START)),
    (
        Kind.PART,
        2,
        PartBody(
            Cover(7, 1), "activity-3", 2, "train", 1, "done", "", b"\x00\xff", START, 1.5, 6400, (1, START), (7, START)
        ),
    ),
    (
        Kind.ANSWER,
        2,
        AnswerBody(
            Cover(7, 1), "activity-3", 2, "train", 1, 1, b"\x00\xff", START, 1500, 6400, (7, START), (1, START), "few"
        ),
    ),
    (
        Kind.QUESTIONS,
        2,
        QuestionsBody(
            *(Cover(7, 1), "activity", 4, bytes(range(32)), ["pump-1", "Öl"], [START, START + 5], [2_540_000_000, 0]),
            *(bytes.fromhex("003c 00c0 ff7b 0000 0100 66ae"), START + 9, START - 7),
        ),
    ),
    (
        Kind.HELLO,
        0,
        Hello("gw-1", (1 << 62) + 5, {"telemetry": LaneHead(1, 12, 0xDEADBEEF)}, "boot-1", "0.1.0", START, 1000),
    ),
    (Kind.WELCOME, 0, Welcome({"telemetry": Mark(11, [(13, 14), (20, 20)], 0xCAFE)}, START, "chain", 1 << 20)),
    (Kind.RECEIPT, 0, Receipt({"alerts": Mark(3, [], 1), "telemetry": Mark(11, [(13, 14)], 2)})),
    (Kind.REFUSAL, 0, Refusal("token", 2.5)),
]


def windows() -> WindowRows:
    """Give 40 windows of three-decimal readings, some of them odd."""
    n = 40
    number = np.arange(n)
    value = (number * 37 % 100) / 1000 + number % 7
    minimum = value - (number % 5) / 1000
    minimum[5] = -0.0
    last = value.copy()
    last[7] = np.nan
    return WindowRows(
        series=number.astype(np.int32) // 2,
        definition=np.zeros(n, np.int32),
        start=START + number % 2 * 10**10,
        revision=(number == 9).astype(np.int32),
        count=(number % 3 + 1).astype(np.int64),
        mean=value.astype(np.float32),
        deviation=np.sqrt(number).astype(np.float32),
        minimum=minimum,
        maximum=value + (number % 11) / 1000,
        first=value,
        last=last,
    )


def readings() -> records.ReadingsRecord:
    """Give a record of 30 readings of two series."""
    number = np.arange(30)
    value = 20.0 + (number * 13 % 40) / 100
    value[11] = -0.0
    return records.ReadingsRecord(
        START,
        records.Readings(number.astype(np.int32) % 2, START + number * 5 * 10**8, value),
        ["pump-1/temperature", "pump-1/pressure"],
        records.Tally(34, 30, 1, {"json": 3}, {"non_finite": 2}),
        records.Recent(np.array([65535, 1, 2], np.uint16), np.array([1, 2, 1 << 31], np.uint32)),
    )


ALERT = Alert([0, 1], START, 2, START + 5, 7.5, "pumps", 3, 6.0, [0.75, 0.25], [1])
"""With the fields that alerts have grown: threshold, contributions, missing."""

STAMPED: list[tuple[Kind, int, msgspec.Struct]] = [
    (Kind.DEFINITIONS, 0, DefinitionsBody(Cover(3, 1), [SeriesDefinition(0, "pump-1/temperature")], [], START)),
    (Kind.LOSSES, 2, LossesBody(Cover(5, 2), [Loss("telemetry", 1, 2, "gone", 0, START)], {"broker": 4}, START + 5)),
    (
        Kind.HELLO,
        0,
        Hello("gw-1", 5, {"telemetry": LaneHead(1, 12, 7)}, now=START, since={"telemetry": START - 9}, reason="cloned"),
    ),
]
"""With the stamps that they have grown, and why an epoch began."""

STATE: dict[str, Any] = {
    "numbers": [0, -1, 1 << 63, -(1 << 100), 0.5, float("-inf"), True, None],
    "text": "Größe",
    "bytes": b"\x00\xff",
    "arrays": {
        "matrix": np.arange(6, dtype=np.float32).reshape(2, 3),
        "empty": np.empty(0, np.int64),
        "flags": np.array([True, False]),
        "odd": np.array([-0.0, np.nan, np.inf]),
    },
}


def plain(value: Any) -> Any:
    """Give a value as JSON has it: arrays with their values as one text, floats as text, bytes as hexadecimal."""
    match value:
        case np.ndarray():
            values = " ".join(str(item) for item in value.ravel().tolist())
            return {"dtype": str(value.dtype), "shape": list(value.shape), "values": values}
        case dict():
            return {key: plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case bytes():
            return value.hex()
        case float():
            return repr(value)
        case _:
            return value


def a_model() -> records.ModelRecord:
    """Give a record of a model: a sealed manifest, and content that only its digest knows."""
    content = bytes(range(40))
    said = manifest.Manifest("pumps", 4, len(content), manifest.digest_of(content), "baseline/1", START, START + 9, "g")
    return records.ModelRecord(START, manifest.seal(said, Signer.from_seed(bytes(32))), content)


def journal_records() -> Iterator[tuple[Kind, bytes, Any]]:
    """Give what only a journal holds: kind, body and what the body says."""
    record = readings()
    tally, recent = record.tally, record.recent
    state = {
        "stamp": record.stamp,
        "columns": record.readings._asdict(),
        "names": record.names,
        "tally": [tally.messages, tally.decoded, tally.redelivered, tally.dead, tally.refused],
        "packet_steps": np.array([65535, 2, 1], np.uint16),
        "hashes": recent.hashes,
    }
    yield *encode_record(record), state
    yield *encode_record(records.TickRecord(START)), {"stamp": START}
    text = '{"window":[]}'
    yield *encode_record(records.ConfigurationRecord(START, text)), {"stamp": START, "text": text}
    clock = records.ClockRecord(START, "boot-1", 12345, synchronised=False)
    clock_state = {"stamp": START, "boot": "boot-1", "monotonic": 12345, "synchronised": False}
    yield *encode_record(clock), clock_state
    model = a_model()
    model_state = {"stamp": START, "manifest": model.manifest, "content": model.content}
    yield *encode_record(model), model_state
    yield *encode_record(records.DropsRecord(START, 30)), {"stamp": START, "total": 30}
    yield Kind.CHECKPOINT, columns.encode_state(STATE), STATE


def grown() -> Iterator[tuple[str, bytes, Any]]:
    """Give the kinds that have grown, by the name of their second file."""
    alerts = AlertsBody(Cover(4, 1), [ALERT])
    yield "alerts-2", frame.message(Kind.ALERTS, alerts, lane=1, seq=9, chain_before=7), msgspec.to_builtins(alerts)
    for kind, lane, body in STAMPED:
        data = frame.message(kind, body, lane=lane, seq=9, chain_before=7)
        yield f"{kind.name.lower()}-2", data, msgspec.to_builtins(body)


def frames() -> Iterator[tuple[Kind, bytes, Any]]:
    """Give every kind: its frame and what its body says."""
    for kind, lane, message in MESSAGES:
        yield (
            kind,
            frame.message(kind, message, lane=lane, seq=9, chain_before=7),
            msgspec.to_builtins(message, builtin_types=(bytes,)),
        )
    rows = windows()
    body = WindowsBody(Cover(6, 0), rows.rows, columns.encode_windows(rows), "boot-1", START)
    said = msgspec.to_builtins(body, builtin_types=(bytes,)) | {"columns": rows._asdict()}
    yield Kind.WINDOWS, frame.message(Kind.WINDOWS, body, lane=3, seq=9, chain_before=7), said
    for kind, packed, state in journal_records():
        yield kind, frame.encode(kind, packed, lane=JOURNAL_LANE, seq=9, chain_before=7), state
    opening = Opening(lane=3, epoch=5, first=9, chain=7, stamp=START, whole=True, about={"names": ["a/b"]})
    yield Kind.SEGMENT, encode_opening(opening), {"format": 1, **opening._asdict()}


def main() -> None:
    """Write the files that are missing."""
    FOLDER.mkdir(exist_ok=True)
    for name, data, said in [*((kind.name.lower(), *rest) for kind, *rest in frames()), *grown()]:
        path = FOLDER / f"{name}.frame"
        if path.exists():
            sys.stdout.write(f"{path.name} is there and stays as it is\n")
            continue
        path.write_bytes(data)
        text = json.dumps(plain(said), indent=1, ensure_ascii=False)
        path.with_suffix(".json").write_text(text + "\n", encoding="utf-8")
        sys.stdout.write(f"{path.name} written, {len(data)} bytes\n")


if __name__ == "__main__":
    main()
