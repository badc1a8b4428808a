"""Looks at this machine: who asks, with which versions, and what the kernel says of its clock."""

from __future__ import annotations

import ctypes
import os
import pwd
import sys
import time

from cli.doctor.facts import Host
from protocol import __version__

TIMEX = 512
"""Bytes, more than any struct timex has: `modes` of 0 asks and changes nothing (adjtimex(2))."""

TIME_ERROR = 5
"""What adjtimex answers while nothing keeps the clock right."""


def look() -> Host:
    """Measure."""
    return Host(_user(), __version__, sys.version_info[:3], time.time_ns(), _synchronised())


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _synchronised() -> bool | None:
    """Ask the kernel whether somebody keeps its clock right; None if it does not say."""
    adjtimex = getattr(ctypes.CDLL(None), "adjtimex", None)
    answer = adjtimex(ctypes.create_string_buffer(TIMEX)) if adjtimex is not None else -1
    return None if answer < 0 else answer != TIME_ERROR
