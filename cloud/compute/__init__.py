"""Where the cloud computes: `pool` is processes of this machine, `dask` a cluster that is there already.

What is computed is a function of ours that stands in a module, given by reference; what it is given are values of ours
and bytes. Both sides have the same Fieldgate installed.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Protocol, TypeVar

from cloud.config import Compute as Settings
from protocol.errors import FieldgateError

Out = TypeVar("Out")


class Died(FieldgateError):
    """What computed it ended, or had to be ended, without an answer; the text is one word: `crash` or `late`."""


class Compute(Protocol):
    """What computes; it is there as long as somebody is inside."""

    async def __aenter__(self) -> None:
        """Make ready, not before it is needed."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let it go, unless others are inside."""

    async def run(self, work: Callable[..., Out], *given: object) -> Out:
        """Give what `work` makes of it, or raise what it raises; Died, or ComputeUnavailable: try again."""

    async def look(self) -> str:
        """Say what computes, for people; ComputeUnavailable if nobody does."""


def choose(settings: Settings) -> Compute:
    """Give what the configuration names; ConfigurationRefused for what is not installed, or files that are none."""
    if settings.scheduler:
        from cloud.compute.dask import Dask  # noqa: PLC0415 - an extra

        return Dask(settings)
    from cloud.compute.pool import Pool  # noqa: PLC0415 - loaded when needed

    return Pool(settings.workers)
