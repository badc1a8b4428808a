"""What the operating system hands a service (secrets, memory), and the line about it that `systemctl status` shows."""

from __future__ import annotations

import ctypes
import gc
import hashlib
import os
from pathlib import Path
from typing import NamedTuple

from gateway.config import Broker, GatewayConfig
from gateway.reload import Secrets
from protocol.errors import ConfigurationRefused


def secrets(config: GatewayConfig) -> Secrets:
    """Read all that a configuration points to; ConfigurationRefused if a secret is missing."""
    devices, uplink = config.devices, config.uplink
    password = _password("devices", devices)
    bus = password if config.bus is None else _password("bus", config.bus)
    token = secret("uplink", "token", file=uplink.token_file, env=uplink.token_env)
    brokers = [devices] if config.bus is None else [devices, config.bus]
    paths = [uplink.ca_file, *(path for one in brokers for path in (one.ca_file, one.cert_file, one.key_file))]
    return Secrets(password, bus, token, {path: _digest(path) for path in paths if path})


def _password(section: str, broker: Broker) -> str | None:
    return secret(section, "password", file=broker.password_file, env=broker.password_env)


def _digest(path: str) -> str:
    """Tell one content of a file from another; "" if it cannot be read: whoever uses it says so."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        return ""


def secret(section: str, name: str, *, file: str, env: str) -> str | None:
    """Read a secret from its file or variable: None if neither is configured, ConfigurationRefused if it holds none."""
    if file:
        try:
            text = Path(file).read_text("utf-8")
        except UnicodeDecodeError:
            raise ConfigurationRefused(f"{section}.{name}_file", file, "a file of text") from None
        except OSError as error:
            raise ConfigurationRefused(f"{section}.{name}_file", file, f"a readable file ({error.strerror})") from None
        return _line(text, f"{section}.{name}_file", file)
    if env:
        try:
            return _line(os.environ[env], f"{section}.{name}_env", env)
        except KeyError:
            raise ConfigurationRefused(f"{section}.{name}_env", env, "a variable set in the environment") from None
    return None


def _line(text: str, key: str, where: str) -> str:
    """Give a secret's line. A second one, or a control character, could not be sent as a header."""
    line = text.strip()
    if not line or not line.isprintable():
        raise ConfigurationRefused(key, where, f"one line of printable text in it{'' if line else ', and it is empty'}")
    return line


M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8  # mallopt(3)
LARGE = 4 << 20
"""Bytes from which on a block is given back at once: from 256 KiB on, a replay takes 1.4 times as long
(`make bench ARGS=recovery`)."""


def settle_memory() -> None:
    """Tune collector and allocator for a process that runs for months; once, when everything is imported.

    Readings travel as columns and make no cycles: looking for some at the usual pace costs a few per cent of the CPU.
    glibc raises its threshold for giving memory back to the size of the largest block freed, so one checkpoint would
    keep its peak for ever; a fixed threshold returns what is LARGE at once, and `give_back` what is not. Other C
    libraries do so anyway.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGE)
        mallopt(M_ARENA_MAX, 1)


def give_back() -> None:
    """Let the allocator return what is free, after something large; only glibc keeps it otherwise."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class Course(NamedTuple):
    """How far a gateway has come: counters since it began, frames that wait for a receipt, and its connections."""

    recorded: int
    windows: int
    frames: int
    broker: bool
    cloud: bool | None  # None: it works alone


class Bulletin:
    """Puts the course of a gateway into one line for a person; rates are those since the line before. Pure."""

    def __init__(self, course: Course, now: int) -> None:
        self._before, self._at = course, now

    def feed(self, course: Course, now: int) -> str:
        """Give the line; `now` in ns."""
        before, seconds = self._before, max((now - self._at) / 1e9, 1e-9)
        self._before, self._at = course, now
        parts = [
            f"{rounded((course.recorded - before.recorded) / seconds)} readings/s",
            f"{rounded((course.windows - before.windows) / seconds)} windows/s",
            "broker connected" if course.broker else "broker away",
        ]
        if course.cloud is not None:
            parts += [f"cloud {'connected' if course.cloud else 'away'}", f"frames waiting: {course.frames:,}"]
        return ", ".join(parts)


def rounded(rate: float) -> str:
    """Give two digits of a rate: what is steady then reads the same from one line to the next."""
    if rate < 10:
        return f"{rate:.1f}".removesuffix(".0")
    return f"{int(float(f'{rate:.1e}')):,}"
