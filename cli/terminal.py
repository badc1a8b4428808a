"""What commands share at the terminal: reading a file of theirs, how a time reads, and where the log goes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from protocol.errors import ConfigurationRefused


def read_text(path: Path) -> str:
    """Read a configuration file; ConfigurationRefused if it is not text or cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigurationRefused("(file)", f"byte {error.start}", "text in UTF-8", file=str(path)) from None
    except OSError as error:
        raise ConfigurationRefused("(file)", None, f"a readable file ({error.strerror})", file=str(path)) from None


def when(stamp: int | None) -> str:
    """Give a time (ns) in UTC; "-" for none."""
    return f"{datetime.fromtimestamp(stamp / 1e9, UTC):%Y-%m-%d %H:%M:%S} UTC" if stamp else "-"


@contextmanager
def put_to_use(path: Path | None) -> Iterator[None]:
    """Name the file when a configuration that reads well turns out to be of no use: a secret absent, a port taken."""
    try:
        yield
    except ConfigurationRefused as refused:
        refused.file = refused.file or str(path or "")
        raise


def log_to_stderr() -> None:
    """Log to standard error: without times under systemd, which adds its own."""
    import logging  # noqa: PLC0415 - only a command that runs on has a log

    stamp = "" if "JOURNAL_STREAM" in os.environ else "%(asctime)s "
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format=f"{stamp}%(levelname)s %(name)s: %(message)s")
