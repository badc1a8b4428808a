"""A task is read only if the pinned key signed it for this gateway, and only if all of it makes sense."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from protocol import tasks
from protocol.errors import TaskRefused
from protocol.identity import SIGNATURE_SIZE, Signer
from protocol.manifest import CONTEXT as MANIFESTS
from protocol.tasks import CONTEXT, MAX_TASK, Task

SIGNER = Signer.from_seed(bytes(range(32)))
STRANGER = Signer.from_seed(bytes(32))
TRAIN = Task("activity-3", 2, "barn", "train", 1, b"\x80", b"parameters", 1_764_000_000 * 10**9, 0)


def signed(body: bytes, context: bytes = CONTEXT) -> bytes:
    """Seal any bytes, as only the holder of the key can."""
    return SIGNER.sign(context + body) + body


def packed(**changes: Any) -> bytes:
    """Give a task's bytes with some fields changed, or gone where the change is None."""
    fields = msgspec.to_builtins(TRAIN, builtin_types=(bytes,)) | changes
    return msgspec.msgpack.encode({key: value for key, value in fields.items() if value is not None})


def test_a_task_is_read_by_the_gateway_it_is_for() -> None:
    assert tasks.unseal(tasks.seal(TRAIN, SIGNER), SIGNER.public, gateway="barn") == TRAIN


def test_fields_of_a_later_version_are_ignored() -> None:
    assert tasks.unseal(signed(packed(priority=3)), SIGNER.public, gateway="barn") == TRAIN


REFUSED: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "signature"),
    "another key": (tasks.seal(TRAIN, STRANGER), "signature"),
    "signed as a manifest": (signed(packed(), MANIFESTS), "signature"),
    "too long": (signed(packed(content=bytes(MAX_TASK))), "signature"),
    "not msgpack": (signed(b"\xc1"), "task"),
    "cut off": (signed(packed()[:-1]), "task"),
    "nested without end": (signed(b"\x81\xa1x" + b"\x91" * 10_000 + b"\x00"), "task"),
    "a job that is a path": (signed(packed(job="../../etc")), "task"),
    "a name in capitals": (signed(packed(name="Train")), "task"),
    "no params": (signed(packed(params=None)), "task"),
    "attempt 0": (signed(packed(attempt=0)), "task"),
    "version 0": (signed(packed(version=0)), "task"),
    "a deadline before time began": (signed(packed(deadline=-1)), "task"),
    "for another gateway": (signed(packed(gateway="mill")), "gateway"),
}


@pytest.mark.parametrize(("sealed", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_a_task_is_refused_by_reason(sealed: bytes, reason: str) -> None:
    with pytest.raises(TaskRefused) as refused:
        tasks.unseal(sealed, SIGNER.public, gateway="barn")
    assert refused.value.reason == reason


def test_a_task_that_no_broker_takes_is_not_made() -> None:
    full = MAX_TASK - len(tasks.seal(msgspec.structs.replace(TRAIN, content=bytes(1 << 16)), SIGNER)) + (1 << 16)
    assert len(tasks.seal(msgspec.structs.replace(TRAIN, content=bytes(full)), SIGNER)) == MAX_TASK
    with pytest.raises(ValueError, match="at most"):
        tasks.seal(msgspec.structs.replace(TRAIN, content=bytes(full + 1)), SIGNER)


def test_the_bytes_of_version_1_are_read_as_they_were_meant() -> None:
    body = msgspec.msgpack.decode(tasks.seal(TRAIN, SIGNER)[SIGNATURE_SIZE:])
    assert body == msgspec.to_builtins(TRAIN, builtin_types=(bytes,))
