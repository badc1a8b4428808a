"""Up to where each lane is receipted. Losing it only causes frames to be sent again.

A file `marks.fg` in the epoch's directory: a frame of kind CHECKPOINT, the State {lane: sequence}. It is written when a
file of frames has gone, and at the end.
"""

from __future__ import annotations

from pathlib import Path

from gateway.segment import Files, write_atomically
from protocol import columns, frame
from protocol.errors import FrameRefused, JournalUnusable
from protocol.messages import LANES, Kind

MARKS = "marks.fg"


class Marks:
    """The marks of one epoch, whose directory is `home`."""

    def __init__(self, files: Files, home: Path) -> None:
        self._files, self._path = files, home / MARKS
        self._upto = dict.fromkeys(LANES, 0)
        self._changed = False
        self.due = False

    def __getitem__(self, lane: str) -> int:
        """Give the last sequence that is receipted, with all before it."""
        return self._upto[lane]

    def note(self, lane: str, upto: int) -> None:
        """Note a receipt, unless it says less than is known."""
        if upto > self._upto[lane]:
            self._upto[lane] = upto
            self._changed = True

    def read(self) -> None:
        """Take what the disk has."""
        try:
            kept = columns.decode_state(frame.decode(self._files.read(self._path)).body)
        except (OSError, FrameRefused):  # a disk that refuses more than this file will say so elsewhere
            return
        self._upto = {lane: int(kept.get(lane, 0)) for lane in LANES}

    def write(self) -> None:
        """Put them on the disk, if they have changed; JournalUnusable if it refused."""
        if not self._changed:
            return
        data = frame.encode(Kind.CHECKPOINT, columns.encode_state(dict(self._upto)))
        try:
            write_atomically(self._files, self._path, data)
        except OSError as error:
            raise JournalUnusable(f"{self._path} cannot be written: {error.strerror}") from error
        self._changed = self.due = False
