"""What can be computed over a fleet: a map over a gateway's readings, and a merge of the parts. The same on both sides.

Laws, checked for all in `tests/learning/test_work.py`: merging is associative and commutative, exactly for counts, else
to rounding or the bound that a task states; the parts of any split of the readings merge to the part of the whole; the
part of no readings changes nothing. Rows of series side by side, and spectra, add up for a split that parts no row and
no run, as gateways do (`aligned`, `spectrum`). Parts are a State's bytes (`protocol.columns`); whoever reads one takes
it for a stranger's: ModelRefused("part").

Work whose part can be had of windows too has a method `of_windows(packed, params) -> part`: `packed` is a
`learning.summary` of what windows say of each series (`cloud/stored.py` says what that is worth).

A user's own work is any object that keeps this contract, as an entry point of the group `fieldgate.work`, installed on
both sides.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

GROUP = "fieldgate.work"


class Batch(NamedTuple):
    """Readings of one gateway, arrays of shape (n,): `series` are indices into `names`, `time` in ns; in no order."""

    names: Sequence[str]
    series: NDArray[np.int32]
    time: NDArray[np.int64]
    value: NDArray[np.float64]


class Work(Protocol):
    """One task: pure, typed and versioned."""

    name: str  # protocol.tasks.WORD
    version: int
    params: type[msgspec.Struct]  # beside which series and what time, which every job says
    raw: bool  # its part has readings in it: refused where a series is not shared; work that does not say so has

    def map(self, batches: Iterable[Batch], params: Any) -> bytes:
        """Give the part of these readings; memory bounded by the part, not by the readings."""

    def merge(self, parts: Sequence[bytes], params: Any) -> bytes:
        """Give the part of all of them together; ModelRefused("part") for what can be nobody's."""

    def result(self, part: bytes, params: Any) -> dict[str, Any]:
        """Say it for people and programs: what JSON can hold, units and bounds included."""
