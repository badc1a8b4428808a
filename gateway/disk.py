"""The floor of free disk: when the disk has less, whoever filled it, the oldest history goes, then what may wait.

Rules:

1. The order: blocks, which are copies (`gateway.blocks`); journal files behind the older checkpoint, oldest first; then
   telemetry; then results. Never alerts, never definitions, never what a recovery needs: below that the gateway goes
   on until the disk refuses, and waits.
2. A look drops whole files until they hold what is missing, and no more: some file systems give room back late.
3. A disk that refuses with room above the floor has a quota: it gets one file for each refusal.
4. What the spool loses is a Loss that `enforce` returns, by cause: "disk_low" below the floor, "disk_full" refused.
   Journal history is no loss to the cloud: what came of it is in the spool or receipted. It is counted in bytes.
"""

from __future__ import annotations

import errno
import logging
from pathlib import Path

from gateway.blocks import drop
from gateway.config import GatewayConfig
from gateway.records import count
from gateway.recovery import Opened
from gateway.segment import Files
from protocol.errors import JournalUnusable

log = logging.getLogger("fieldgate.disk")

LOOK_S = 1.0
"""How often free disk is asked for: a neighbour that writes 100 MB/s gets so far below the floor."""

SHARE, MOST = 20, 512 << 20
"""Without `min_free`, a twentieth of the disk and at most 512 MiB: that on a card of 16 GB, 3 MB of a tmpfs of 64."""


def floor_of(files: Files, data: Path, min_free: int | None) -> int:
    """Give the bytes that should be free on the disk that holds the data; OSError where it does not say."""
    return min(MOST, files.total(data) // SHARE) if min_free is None else int(min_free)


class Disk:
    """Looks after the disk of one gateway. It drops, so it belongs to the thread that reads journal and spool."""

    def __init__(self, config: GatewayConfig, opened: Opened) -> None:
        self.min_free = config.min_free
        self.dropped: dict[str, int] = {}  # bytes of journal history, by cause
        self._data = Path(config.data)
        self._files = opened.spool.files
        self._journal, self._checkpoints, self._spool = opened.journal, opened.checkpoints, opened.spool
        self._low = False

    def free(self) -> tuple[int, int]:
        """Give the bytes that are free, and how many should be; (0, 0) where the disk does not say."""
        try:
            return self._files.free(self._data), floor_of(self._files, self._data, self.min_free)
        except OSError:
            return 0, 0

    def look(self) -> int:
        """Drop what the floor asks for; give the bytes won."""
        free, floor = self.free()
        won = 0
        while floor - free > won and (size := self._drop("disk_low")):
            won += size
        self._tell(free, floor)
        return won

    def refused(self, error: JournalUnusable) -> None:
        """Win room if that is what the disk lacked."""
        cause: BaseException | None = error
        while isinstance(cause, JournalUnusable):
            cause = cause.__cause__
        full = isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)
        if full and not self.look():
            self._drop("disk_full")

    def _drop(self, cause: str) -> int:
        if blocks := drop(self._files, self._data / "blocks"):  # a cache: nothing is lost with it
            return blocks
        size = self._journal.make_room(self._checkpoints.older_position)[1]
        count(self.dropped, {cause: size})
        return size or self._spool.make_room(cause)

    def _tell(self, free: int, floor: int) -> None:
        low, self._low = self._low, free < floor
        if self._low and not low:
            log.warning("disk: %d bytes are free, %d should be: the oldest history goes, then telemetry", free, floor)
        elif low and not self._low:
            log.info("disk: %d bytes are free again", free)
