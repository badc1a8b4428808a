"""Work by name: what is built in, then the entry points of the group `fieldgate.work`; and what a job says to it.

Nothing that a message says is imported or evaluated: a name is looked up among what is installed here.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

import msgspec

from learning.work.contract import GROUP, Work
from protocol.errors import TaskRefused

BUILT_IN = {
    "moments": "moments",
    "quantiles": "quantiles",
    "histogram": "histogram",
    "covariance": "covariance",
    "correlation": "covariance",
    "ridge": "ridge",
    "spectrum": "spectrum",
    "top_anomalies": "anomalies",
    "sample": "sample",
}
"""The module that holds each."""


def names() -> list[str]:
    """Name all work that is installed here."""
    return sorted({*BUILT_IN, *(point.name for point in entry_points(group=GROUP))})


def find(name: str, version: int = 0) -> Work:
    """Give work by its name, of this version (0: of any); TaskRefused("unknown")."""
    if name in BUILT_IN:
        found: Any = getattr(import_module(f"learning.work.{BUILT_IN[name]}"), name)
    else:
        points = entry_points(group=GROUP, name=name)
        if not points:
            raise TaskRefused("unknown", f"no work {name!r} is installed here: {', '.join(names())}")
        found = next(iter(points)).load()
    if version and found.version != version:
        raise TaskRefused("unknown", f"{name!r} is version {found.version} here, not {version}")
    work: Work = found
    return work


def sends_readings(work: Work) -> bool:
    """Whether its part has readings in it; work that does not say has."""
    return bool(getattr(work, "raw", True))


def of_windows(work: Work) -> Callable[[bytes, Any], bytes] | None:
    """Give how its part is made of what windows say of each series (a `learning.summary`); None if it is not."""
    found: Callable[[bytes, Any], bytes] | None = getattr(work, "of_windows", None)
    return found


def read_params(work: Work, packed: bytes, limit: int = 0) -> Any:
    """Read a Question's `params`; `limit` is how many readings may leave. TaskRefused("params") says which key."""
    try:
        params = msgspec.msgpack.decode(packed, type=work.params)
        return msgspec.structs.replace(params, limit=limit) if "limit" in work.params.__struct_fields__ else params
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise TaskRefused("params", f"{work.name}: {error}") from error


def pack_params(work: Work, said: dict[str, Any]) -> bytes:
    """Give a Question's `params`, all of them; TaskRefused("params") says which key."""
    try:
        return msgspec.msgpack.encode(msgspec.convert(said, work.params))
    except msgspec.ValidationError as error:
        raise TaskRefused("params", f"{work.name}: {error}") from error
