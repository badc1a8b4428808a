"""Every error of Fieldgate, and whose fault it is.

FieldgateError
├── ConfigurationRefused   the operator's: a key, its value, what was expected
├── Refused                what came and is not taken
│   ├── FrameRefused       the sender's or the disk's: bytes that are no frame we accept
│   ├── ModelRefused       the sender's: a manifest, chunk or model that may not score
│   └── TaskRefused        the sender's: a task that may not run, or whose answer cannot be used
├── JournalUnusable        this machine's: the journal or spool cannot be opened or committed
├── StoreUnavailable       the cloud's database or its disk: nothing was committed, try again
├── ComputeUnavailable     the cluster's that the cloud computes on, or the network's: try again
├── BrokerUnavailable      the broker's or the network's: try again
├── CloudUnavailable       the cloud's or the network's: try again
└── CloudRefused           the cloud's word about us: wrong token, wrong gateway, too large
"""

from __future__ import annotations


class FieldgateError(Exception):
    """Base of all errors that Fieldgate raises on purpose."""


class ConfigurationRefused(FieldgateError):
    """A configuration that cannot be used: which file, which key, what it held, what was expected."""

    def __init__(self, key: str, value: object, expectation: str, *, file: str = "", suggestion: str = "") -> None:
        super().__init__(key, value, expectation)
        self.file = file
        self.key = key
        self.value = value
        self.expectation = expectation
        self.suggestion = suggestion

    def __str__(self) -> str:
        """Say it in one line an operator can act on."""
        where = f"{self.file}: " if self.file else ""
        hint = f" (did you mean {self.suggestion!r}?)" if self.suggestion else ""
        return f"{where}{self.key} = {self.value!r}: expected {self.expectation}{hint}"


class Refused(FieldgateError):
    """Something that came and is not taken; `reason` is one word, fit for a counter."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        """Reason and detail in one line."""
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


class FrameRefused(Refused):
    """Bytes that are not a frame this version accepts."""


class ModelRefused(Refused):
    """A manifest, chunk or model that may not score."""


class TaskRefused(Refused):
    """A task that may not run, or whose answer cannot be used."""


class JobRefused(Refused):
    """A job that nobody can begin."""


class JournalUnusable(FieldgateError):
    """The journal or spool cannot be opened, or a commit failed; nothing may be acknowledged."""


class StoreUnavailable(FieldgateError):
    """The cloud's store could not commit or answer; nothing may be receipted."""


class ComputeUnavailable(FieldgateError):
    """What the cloud computes on cannot be reached, or nobody works there; it is tried again."""


class BrokerUnavailable(FieldgateError):
    """The MQTT broker cannot be reached or ended the session; the connection is tried again."""


class CloudUnavailable(FieldgateError):
    """The cloud cannot be reached, or answered that it is busy; the connection is tried again."""

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_s = retry_after_s


class CloudRefused(FieldgateError):
    """The cloud will not take what we offer; trying again without a change is slow on purpose."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason

    def __str__(self) -> str:
        """Say the reason in a line."""
        return self.reason
