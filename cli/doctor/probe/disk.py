"""Looks at the disk: one file is written, synced and removed; nothing of a gateway's own is opened for writing."""

from __future__ import annotations

import os
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from cli.doctor.facts import Disk, Unknown
from gateway.segment import Files

APPENDS = 50
BLOCK = bytes(4096)
ENOUGH_S = 10.0
"""A disk so slow that the appends take longer than this has shown what it is after fewer."""

MOST_FILES = 100_000
MOUNTS = Path("/proc/self/mountinfo")


def look(files: Files, data: Path) -> Disk:
    """Measure the data directory, or the nearest directory above it that exists; what fails is in the answer."""
    data = data.absolute()
    place = next(path for path in (data, *data.parents) if _exists(path))
    trouble, syncs = _append(files, place)
    return Disk(
        str(place),
        place == data,
        trouble,
        _free(files, place),
        _used(data),
        kind_of(place.resolve(), _mounts()),
        tuple(syncs),
        _running(files, data / "journal" / "lock"),
    )


def _append(files: Files, place: Path) -> tuple[str, list[float]]:
    """Give why nothing can be written, or "", and how long each append took to be durable."""
    path = place / f".doctor-{os.getpid()}"
    syncs: list[float] = []
    try:
        descriptor = files.create(path)
        try:
            began = files.monotonic()
            while len(syncs) < APPENDS and files.monotonic() - began < ENOUGH_S:
                syncs.append(_sync(files, descriptor))
        finally:
            files.close(descriptor)
            files.unlink(path)
    except OSError as error:
        return error.strerror or str(error), syncs
    return "", syncs


def _sync(files: Files, descriptor: int) -> float:
    files.write(descriptor, BLOCK)
    began = files.monotonic()
    files.sync(descriptor)
    return files.monotonic() - began


def _free(files: Files, place: Path) -> int | Unknown:
    try:
        return files.free(place)
    except OSError as error:
        return Unknown(error.strerror or str(error))


def _used(data: Path) -> int:
    """Add up the files below a directory; one that goes meanwhile, or cannot be seen, counts nothing."""
    paths = (Path(directory, name) for directory, _, names in os.walk(data) for name in names)
    return sum(map(_size, islice(paths, MOST_FILES)))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _exists(path: Path) -> bool:
    try:
        path.stat()
    except OSError:
        return False
    return True


def _running(files: Files, lock: Path) -> bool | Unknown:
    """Tell whether a gateway holds the lock. Where none does, it is ours for the instant of asking."""
    try:
        if not lock.exists():
            return False
        files.close(files.lock(lock))
    except BlockingIOError:
        return True
    except OSError as error:
        return Unknown(f"{lock}: {error.strerror}")
    return False


def _mounts() -> list[str]:
    try:
        return MOUNTS.read_text("utf-8", "replace").splitlines()
    except OSError:
        return []


def kind_of(place: Path, mounts: Iterable[str]) -> str:
    """Give the type of the file system that holds a path, from the lines of mountinfo (proc(5)); "" if unknown."""
    kinds: dict[Path, str] = {}  # of mounts over one another, the last counts
    for line in mounts:
        about, _, source = line.partition(" - ")
        fields, kind = about.split(" "), source.split(" ", 1)[0]
        if len(fields) > 4:
            kinds[Path(fields[4].replace("\\040", " "))] = kind
    return next((kinds[path] for path in (place, *place.parents) if path in kinds), "")
