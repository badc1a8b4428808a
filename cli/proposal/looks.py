"""What a topic's messages look like: a number, a map with one value, a map with several, or nothing to be read. Pure.

A time is found by its name and believed by its value: near the moment it came. A clock that is hours off, as local time
without a zone is, would be worse than arrival time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from cli.proposal.ear import Sample
from gateway.decode.discover import EARLIEST
from gateway.decode.stamps import read_times

TIMES = frozenset(
    {
        *("time", "timestamp", "ts", "t", "at", "date", "datetime", "when", "utc", "epoch", "created", "created_at"),
        *("event_time", "eventtime", "measured_at", "last_seen", "sent"),
    }
)
VALUES = frozenset(("value", "val", "v", "reading"))
BOOKKEEPING = frozenset(
    ("n", "id", "seq", "sequence", "counter", "msgid", "message_id", "packet_id", "version", "fcnt")
)

NUMBERS = {int, float, bool}

NOWHERE = "-"
"""A path that no payload has: arrival time stands in for a `time` that cannot be believed."""

MAX_DEPTH = 6
BEHIND, AHEAD = 86_400 * 10**9, 240 * 10**9
"""How far (ns) a believable time is from the moment it came; a gateway takes no time beyond `max_future`, 5 minutes."""

Path = tuple[str, ...]


class Look(NamedTuple):
    """What all messages of a topic have in common."""

    format: str  # of a [[source]]; "" if there is none that reads them
    paths: tuple[str, ...] = ()  # of the numbers; none for a number alone
    value: str = ""  # the one that is the value, if there is one
    time: str = ""  # path of a time to be believed, NOWHERE if there is a `time` that cannot be, "" if there is none
    texts: frozenset[str] = frozenset()  # paths that are sometimes no number
    aside: tuple[str, ...] = ()  # paths of numbers that count or identify messages
    why: str = ""  # why there is no format


def look(samples: Sequence[Sample]) -> Look:
    """Say what a topic's messages look like."""
    kinds = {_kind(sample.payload) for sample in samples}
    if not kinds:
        return Look("", why="empty or larger than 8 KiB")
    if len(kinds) > 1:
        return Look("", why="messages of different kinds under one topic")
    kind = kinds.pop()
    if kind in ("json", "msgpack"):
        return _map(kind, samples)
    return Look(kind, why="" if kind else "text, and no number")


def _kind(payload: bytes) -> str:
    if _is_number(payload):
        return "number"
    return next((kind for kind, read in READ.items() if isinstance(_tree(read, payload), dict)), "")


def _is_number(payload: bytes) -> bool:
    try:
        float(payload)
    except ValueError:
        return False
    return b"_" not in payload


READ: dict[str, Callable[[bytes], Any]] = {"json": msgspec.json.decode, "msgpack": msgspec.msgpack.decode}


def _tree(read: Callable[[bytes], Any], payload: bytes) -> Any:
    try:
        return read(payload)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None


def as_map(payload: bytes) -> dict[str, Any]:
    """Read a JSON object; anything else is an empty one."""
    tree = _tree(READ["json"], payload)
    return tree if isinstance(tree, dict) else {}


def _map(kind: str, samples: Sequence[Sample]) -> Look:
    found = [(sample, dict(_leaves(_tree(READ[kind], sample.payload)))) for sample in samples]
    kinds: dict[Path, set[type]] = {}
    for _, leaves in found:
        for path, leaf in leaves.items():
            kinds.setdefault(path, set()).add(type(leaf))
    times = [path for path in kinds if path[-1].lower() in TIMES]
    believed = [
        path for path in times if all(_near(leaves[path], sample) for sample, leaves in found if path in leaves)
    ]
    numbers = [path for path, types in kinds.items() if types <= NUMBERS and path not in believed]
    paths, aside = _parted(numbers)
    named = [path for path in paths if path.rpartition(".")[2].lower() in VALUES]
    return Look(
        kind if paths else "",
        paths,
        named[0] if len(named) == 1 else "",
        ".".join(believed[0]) if believed else NOWHERE if any(path[0] == "time" for path in kinds) else "",
        frozenset(".".join(path) for path, types in kinds.items() if not types <= NUMBERS),
        aside,
        "" if paths else "no number in it",
    )


def _parted(numbers: list[Path]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Part numbers that may be measurements from those that are not; `t` may be a temperature."""
    aside = [path for path in numbers if path[-1].lower() in BOOKKEEPING | TIMES - {"t"}]
    return tuple(".".join(path) for path in numbers if path not in aside), tuple(map(".".join, aside))


def _leaves(node: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Give what a path of a [[source]] can name; null is nothing, a list is a leaf that is no number."""
    if isinstance(node, dict) and len(path) < MAX_DEPTH:
        for key, below in node.items():
            if isinstance(key, str) and key and key.isprintable() and not set('."\\') & set(key):
                yield from _leaves(below, (*path, key))
    elif path and node is not None:
        yield path, node


def _near(leaf: Any, sample: Sample) -> bool:
    if not isinstance(leaf, str | int | float) or isinstance(leaf, bool):
        return False
    time = int(read_times([leaf], "auto")[0])
    earliest = EARLIEST if sample.retained else sample.now - BEHIND
    return earliest <= time <= sample.now + AHEAD
