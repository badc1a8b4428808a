"""The directories of a spool, one for each epoch: which counts, and how another takes its place.

    000001-8f3a19c2d4e5b607      generation and epoch; the highest generation counts
    ...draft                     not whole yet, or not wanted: removed at the next opening

Rules:

1. An epoch is written in full under a draft name and renamed; then the old one is removed. A kill at any point leaves
   one of the two, whole.
2. One that failed after it had its name loses it, durably (`settle`), before the old one gets another frame.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from gateway.segment import Files
from protocol.errors import JournalUnusable
from protocol.messages import LANES

NAME = re.compile(r"(\d{6})-([0-9a-f]{16})")
DRAFT = ".draft"


class Epoch(NamedTuple):
    """One of a spool's epochs."""

    generation: int
    number: int

    @property
    def name(self) -> str:
        """What its directory is called."""
        return f"{self.generation:06}-{self.number:016x}"


class Epochs:
    """The epochs in a directory. All methods but `settle` raise OSError."""

    def __init__(self, files: Files, directory: Path) -> None:
        self._files, self._directory = files, directory
        self._unsettled = False  # an epoch that failed may still have its name

    def path(self, epoch: Epoch) -> Path:
        """Name the directory of an epoch."""
        return self._directory / epoch.name

    def draft(self, epoch: Epoch) -> Path:
        """Name the directory of an epoch that is not whole yet."""
        return self._directory / (epoch.name + DRAFT)

    def newest(self) -> Epoch | None:
        """Give the epoch that counts, and remove what does not; None if there is none."""
        names = self._files.names(self._directory)
        epochs = [match for name in names if (match := NAME.fullmatch(name))]
        for name in [match[0] for match in epochs[:-1]] + [name for name in names if name.endswith(DRAFT)]:
            self.remove(self._directory / name)
        return Epoch(int(epochs[-1][1]), int(epochs[-1][2], 16)) if epochs else None

    def remove(self, path: Path) -> None:
        """Remove an epoch's directory; what cannot be removed does not count, and the next opening tries again."""
        with suppress(OSError):
            for lane in LANES:
                for name in self._files.names(path / lane):
                    self._files.unlink(path / lane / name)
                if lane in self._files.names(path):
                    self._files.rmdir(path / lane)
            for name in self._files.names(path):
                self._files.unlink(path / name)
            self._files.rmdir(path)

    def place(self, epoch: Epoch) -> None:
        """Let the draft of an epoch be the one that counts, durably."""
        self._files.rename(self.draft(epoch), self.path(epoch))
        self._files.sync_directory(self._directory)

    def failed(self, epoch: Epoch, here: Epoch) -> None:
        """Give up an epoch that could not begin; what of that fails is for `settle`, or the next opening."""
        self._unsettled = True
        with suppress(JournalUnusable):
            self.settle(here)
            self.remove(self.draft(epoch))

    def settle(self, here: Epoch) -> None:
        """Take its name, durably, from an epoch that could not begin: it would count after the next start."""
        if not self._unsettled:
            return
        try:
            for name in self._files.names(self._directory):
                if NAME.fullmatch(name) and name > here.name:
                    self._files.rename(self._directory / name, self._directory / (name + DRAFT))
            self._files.sync_directory(self._directory)
        except OSError as error:
            raise JournalUnusable(f"{self._directory} cannot be written: {error.strerror}") from error
        self._unsettled = False
