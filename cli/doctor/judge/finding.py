"""What a check found, and what to do about it."""

from __future__ import annotations

from typing import Literal, NamedTuple

Verdict = Literal["ok", "warn", "fail", "skip"]


class Finding(NamedTuple):
    """The outcome of one check; `do` is the remedy, in one line, wherever something is to be done."""

    check: str
    verdict: Verdict
    found: str
    do: str = ""


def ok(check: str, found: str) -> Finding:
    """Find nothing to do."""
    return Finding(check, "ok", found)


def warn(check: str, found: str, do: str) -> Finding:
    """Find that it works, and less well than it could, or not for long."""
    return Finding(check, "warn", found, do)


def fail(check: str, found: str, do: str) -> Finding:
    """Find that it does not work, or loses readings."""
    return Finding(check, "fail", found, do)


def skip(check: str, why: str) -> Finding:
    """Find out nothing."""
    return Finding(check, "skip", why)


def size(number: float) -> str:
    """Give bytes with a unit."""
    for unit in ("B", "KiB", "MiB"):
        if number < 1024:
            return f"{_digits(number)} {unit}"
        number /= 1024
    return f"{number:,.1f} GiB"


def span(seconds: float) -> str:
    """Give a duration with the unit that makes it short."""
    if seconds < 1:
        return f"{_digits(seconds * 1000)} ms"
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{_digits(seconds / length)} {unit}"
    return f"{_digits(seconds)} s"


def _digits(number: float) -> str:
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"
