"""One append-only sequence of records over segment files: the durable half of journal and spool.

Rules:

1. A sequence and a record's bytes are decided at `append` and never change; a sequence is never given twice.
2. `append` only gathers in memory. A record is durable, readable and counted in `bytes` once `commit` has returned.
3. Which record begins a file is decided at `append` too, because `about` must say what was true just before it.
4. A file whose write or sync failed gets no more bytes: the next commit writes everything not yet durable to a new file
   (which continues the old one and is dropped with it). The error is JournalUnusable; nothing is lost by it.
5. A newest file without records says what nothing else does: where the log stands, and its `about`. If it must be made
   again, the new one is complete before it takes its name.
6. Opening reads the last file only (`recovery`).
7. `append` belongs to the thread that reads and drops; `commit` may run in another at the same time.

| may fill | bound | answer when full |
|---|---|---|
| a file | `segment_bytes`, or one record if that is larger | the next record begins a new file |
| records waiting for a commit | the owner's, by `pending_bytes` | `forget_waiting`, or no more appends |
| the log | the owner's, by `bytes` | `drop_before` |
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from gateway.records import State
from gateway.segment import layout
from gateway.segment.files import DRAFT, Files, lock_directory
from gateway.segment.history import History, Segment
from gateway.segment.layout import Index, Opening
from gateway.segment.recovery import Recovered, recover
from protocol import frame
from protocol.errors import JournalUnusable
from protocol.messages import Kind


class _Waiting(NamedTuple):
    seq: int
    data: bytes
    chain_before: int
    chain: int
    stamp: int
    opening: bytes  # the SEGMENT frame, if this record begins a file


class Log(History):
    """See the rules above. Made by `open`."""

    def __init__(self, files: Files, directory: Path, *, lane: int, epoch: int, about: Callable[[], State]) -> None:
        super().__init__(files, directory, lane)
        self.epoch, self.about = epoch, about
        self.segment_bytes, self.segment_age = 0, 0
        self.observe: Callable[[float], None] | None = None
        self.next, self.chain = 1, 0  # what the next append gets
        self.written = 0  # bytes ever written here, by this process
        self.pending_bytes = 0  # waiting for a commit
        self.torn = 0  # bytes cut off in recovery
        self._waiting: deque[_Waiting] = deque()
        self._disk = Lock()  # held for a whole commit
        self._active: int | None = None  # descriptor of the newest file, while it may get more bytes
        self._locked: int | None = None
        self._begin_new = True
        self._passing: tuple[int, bytes] | None = None  # a file to pass over what was given up, while none does
        self._planned = self._planned_records = self._began = 0  # of the file that the last append goes to

    @classmethod
    def open(
        cls,
        files: Files,
        directory: Path,
        *,
        lane: int,
        epoch: int,
        segment_bytes: int,
        about: Callable[[], State],
        segment_age: int = 0,
        observe: Callable[[float], None] | None = None,
    ) -> Log:
        """Lock and recover a directory; damage is counted, never raised. JournalUnusable if it cannot be used at all.

        A file gets at most `segment_bytes`, and records of at most `segment_age` ns (0: any). `about()` is called
        whenever a record begins a file; `observe` is given the seconds of each sync, in the committing thread.
        """
        log = cls(files, directory, lane=lane, epoch=epoch, about=about)
        log.segment_bytes, log.segment_age, log.observe = segment_bytes, segment_age, observe
        log._locked = lock_directory(files, directory)
        try:
            log._take_over(recover(files, directory, lane, epoch))
        except OSError as error:
            log.close()
            raise JournalUnusable(f"{directory} cannot be opened: {error.strerror}") from error
        return log

    def close(self) -> None:
        """Close descriptors and give up the lock; what was not committed is gone."""
        with self._disk:
            for descriptor in (self._active, self._locked):
                if descriptor is not None:
                    self.files.close(descriptor)
            self._active = self._locked = None

    def _take_over(self, found: Recovered) -> None:
        self._segments, self._index = found.segments, found.index
        self.bytes = sum(segment.bytes for segment in found.segments)
        self.torn, self.damaged = found.torn, found.aside
        self.note_damage(found.holes)
        self._stand(found.next, found.chain)
        if found.resumable is not None:
            self._active = self.files.reopen(self._path(self.newest_first))
            self._planned, self._planned_records = found.index.end, len(found.index.offsets)
            self._begin_new, self._began = False, found.resumable

    def _stand(self, seq: int, chain: int) -> None:
        self.next, self.chain = seq, chain
        self.durable, self.durable_chain = seq - 1, chain

    # Appending.

    def append(self, kind: Kind, body: bytes, *, stamp: int = 0) -> int:
        """Gather one record and return its sequence; FrameRefused if it is too large, and then nothing has changed."""
        seq, before = self.next, self.chain
        data = frame.encode(kind, body, lane=self.lane, seq=seq, chain_before=before)
        opening = b""
        if self._is_full(len(data), stamp):
            opening = self._opening(seq, before, stamp, whole=True, about=self.about())
            self._planned = self._planned_records = 0
            self._begin_new, self._began = False, stamp
        self.chain = frame.header(data).chain
        self.next = seq + 1
        size = len(opening) + len(data)
        self._planned += size
        self._planned_records += 1
        with self._lock:
            self._waiting.append(_Waiting(seq, data, before, self.chain, stamp, opening))
            self.pending_bytes += size
        return seq

    def _is_full(self, size: int, stamp: int) -> bool:
        if self._begin_new or not self._planned_records:
            return self._begin_new
        aged = 0 < self.segment_age < stamp - self._began
        return aged or self._planned + size > self.segment_bytes

    def _opening(self, first: int, chain: int, stamp: int, *, whole: bool, about: State) -> bytes:
        return layout.encode_opening(Opening(self.lane, self.epoch, first, chain, stamp, whole, about))

    def skip_to(self, seq: int) -> None:
        """Let the next record have at least this sequence; only while nothing waits for a commit."""
        assert not self._waiting
        if seq > self.next:
            self._stand(seq, self.chain)
            self._begin_new = True

    @property
    def gave_up(self) -> bool:
        """Whether sequences were given up that the next commit must pass over, before anybody is told of them."""
        return self._passing is not None

    @property
    def waiting_since(self) -> int:
        """The stamp (ns) of the oldest record that waits for a commit; 0 if none does."""
        with self._lock:
            return self._waiting[0].stamp if self._waiting else 0

    def forget_waiting(self) -> tuple[int, int] | None:
        """Give up all records that wait for a commit, and say which; None if there are none or a commit is at work.

        Say so to others only after the next commit: it makes durable that these sequences were given.
        """
        if not self._disk.acquire(blocking=False):
            return None
        try:
            with self._lock:
                if not self._waiting:
                    return None
                gone = (self._waiting[0].seq, self._waiting[-1].seq)
                self._waiting.clear()
                self.pending_bytes = 0
            self._holes.add(*gone)  # missed, but not damaged
            self._begin_new = True
            self.chain = self.durable_chain  # it links what there is
            self._passing = self.next, self._opening(self.next, self.chain, 0, whole=True, about=self.about())
            return gone
        finally:
            self._disk.release()

    # Committing.

    def commit(self) -> int:
        """Make all records gathered so far durable and return the last one's sequence; JournalUnusable if it failed."""
        with self._disk:
            with self._lock:
                batch = list(self._waiting)
                place = None if batch else self._passing
            if place:
                self._put(*place, [])
            while batch:
                rest = list(takewhile(lambda waiting: not waiting.opening, batch[1:]))
                chunk, batch = [batch[0], *rest], batch[1 + len(rest) :]
                self._put(chunk[0].seq, self._header(chunk[0]), chunk)
            return self.durable

    def roll(self, stamp: int) -> None:
        """Commit, then begin a new file that holds only what `about` says; its first record is the next append."""
        self.commit()
        assert self.newest_first < self.next or not self._segments, "the newest file holds nothing already"
        with self._disk:
            self._put(self.next, self._opening(self.next, self.chain, stamp, whole=True, about=self.about()), [])
        self._begin_new, self._began = False, stamp
        self._planned, self._planned_records = self._index.end, 0

    def _header(self, head: _Waiting) -> bytes:
        """Give the SEGMENT frame of the file this record begins, b"" if it goes into the newest (rules 3 and 4)."""
        placed = bool(self._segments) and self._segments[-1].first == head.seq
        if self._active is not None and (placed or not head.opening):
            return b""
        return head.opening if head.opening and not placed else self._continuation(head)

    def _continuation(self, head: _Waiting) -> bytes:
        last = self._segments[-1]
        known = self._opening_of(last)
        if last.first == head.seq and known:
            return layout.encode_opening(known)
        return self._opening(head.seq, head.chain_before, head.stamp, whole=False, about=known.about if known else {})

    def _put(self, first: int, opening: bytes, chunk: list[_Waiting]) -> None:
        data = b"".join([opening, *(waiting.data for waiting in chunk)])
        path = self._path(first)
        replaces = bool(opening and self._segments) and self._segments[-1].first == first  # rule 5
        begun = path.with_name(path.name + DRAFT) if replaces else path
        try:
            if opening:
                self._begin(begun)
            assert self._active is not None
            self.files.write(self._active, data)
            self._sync(self._active)
            if replaces:
                self.files.rename(begun, path)
            if opening:
                self.files.sync_directory(self.directory)
        except OSError as error:
            self._abandon(begun if opening else None)
            raise JournalUnusable(f"{self.directory} cannot be written: {error.strerror}") from error
        if replaces:
            self._forget_newest()
        self._vouch(first, opening, chunk, len(data))

    def _begin(self, path: Path) -> None:
        self.files.unlink(path)  # left by a commit that failed: none of its records was vouched for
        descriptor = self.files.create(path)
        if self._active is not None:
            self.files.close(self._active)
        self._active = descriptor

    def _forget_newest(self) -> None:
        with self._lock:
            self.bytes -= self._segments.pop().bytes

    def _sync(self, descriptor: int) -> None:
        begun = self.files.monotonic()
        self.files.sync(descriptor)
        if self.observe is not None:
            self.observe(self.files.monotonic() - begun)

    def _abandon(self, fresh: Path | None) -> None:
        """Leave the file that failed, and give its room back if that can be done: a full disk needs it."""
        descriptor, self._active = self._active, None
        with suppress(OSError):  # the failure that brought us here is the one to report
            if descriptor is not None:
                self.files.close(descriptor)
        with suppress(OSError):  # the same; readers step over what stays behind
            if fresh is not None:
                self.files.unlink(fresh)
            elif self._segments:
                self.files.truncate(self._path(self._segments[-1].first), self._segments[-1].bytes)

    def _vouch(self, first: int, opening: bytes, chunk: list[_Waiting], size: int) -> None:
        with self._lock:
            if opening:
                self._passing = None
                self._keep(self._index)
                self._index = Index(first, len(opening))
                self._segments.append(Segment(first, 0))
            for waiting in chunk:
                self._index.put(waiting.seq, self._index.end, len(waiting.data), waiting.chain)
                self.durable, self.durable_chain = waiting.seq, waiting.chain
            while self._waiting and self._waiting[0].seq <= self.durable:
                gone = self._waiting.popleft()
                self.pending_bytes -= len(gone.opening) + len(gone.data)
            self._segments[-1].bytes += size
            self.bytes += size
            self.written += size
