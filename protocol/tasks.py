"""A task: what the cloud asks one gateway to compute, signed; a training round and a job are made of them. Pure.

Rules:

1. A sealed task is 64 bytes of Ed25519 signature, then a msgpack map. What is signed is CONTEXT and that map. The
   signature is checked, with the key that the gateway pins, before anything is parsed.
2. A task says which registered computation is meant, never how it is done: nothing in it is evaluated.
3. (job, gateway, attempt) names a task, and its answer. An attempt is never given twice; a later one replaces it.
4. A task is retained on the bus until it is answered or over, so a gateway that was away finds it when it is back.

| reason | why |
|---|---|
| signature | not signed by the pinned key, or changed since |
| task | signed, and yet not a task we understand |
| gateway | made for another gateway |
"""

from __future__ import annotations

import re

import msgspec

from protocol.errors import TaskRefused
from protocol.identity import SIGNATURE_SIZE, Signer, verify
from protocol.settings import NAME

MAX_TASK = 768 << 10
"""Bytes of a sealed task, content and all: a broker takes it as one message."""

MAX_ATTEMPT = 1 << 31
CONTEXT = b"fieldgate/v1/task\0"
WORD = re.compile(r"[a-z][a-z0-9_]{0,31}")
"""What a registered task may be called."""

_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class Task(msgspec.Struct, frozen=True):
    """One gateway's part of a job."""

    job: str
    attempt: int  # from 1
    gateway: str
    name: str  # of the computation: "train"
    version: int  # of what its `params` and its answer mean
    params: bytes  # msgpack of the computation's own type
    content: bytes = b""  # what it starts from: parameters of a model
    issued: int = 0  # ns
    deadline: int = 0  # ns; later nobody waits for the answer; 0 is never
    state: str = ""  # under this name the gateway keeps what the next such task is to find again; "": nothing
    lean: bool = False  # who asks reads answers without names: messages.AnswerBody, training.LeanTrained


_TASK = msgspec.msgpack.Decoder(Task)
_ENCODE = msgspec.msgpack.Encoder().encode


def seal(task: Task, signer: Signer) -> bytes:
    """Sign a task; ValueError if it is larger than a broker takes."""
    body = _ENCODE(task)
    if SIGNATURE_SIZE + len(body) > MAX_TASK:
        raise ValueError(f"a task of {len(body)} bytes: {MAX_TASK - SIGNATURE_SIZE} at most")
    return signer.sign(CONTEXT + body) + body


def unseal(sealed: bytes, public: bytes, *, gateway: str) -> Task:
    """Verify, then read; `gateway` is who asks. TaskRefused says why not."""
    if not SIGNATURE_SIZE < len(sealed) <= MAX_TASK:
        raise TaskRefused("signature", f"{len(sealed)} bytes")
    signature, body = sealed[:SIGNATURE_SIZE], sealed[SIGNATURE_SIZE:]
    if not verify(public, CONTEXT + body, signature):
        raise TaskRefused("signature", "not signed by the pinned key")
    try:
        task = _TASK.decode(body)
    except _UNREADABLE as error:
        raise TaskRefused("task", str(error)) from error
    names = (task.job, task.gateway, task.state or task.job)
    if not all(map(NAME.fullmatch, names)) or not WORD.fullmatch(task.name):
        raise TaskRefused("task", f"{task.name[:32]!r} of {task.job[:64]!r} for {task.gateway[:64]!r}")
    if not 1 <= task.attempt <= MAX_ATTEMPT or task.version < 1 or task.deadline < 0:
        raise TaskRefused("task", f"{task.name[:32]!r} version {task.version}, attempt {task.attempt}")
    if task.gateway != gateway:
        raise TaskRefused("gateway", f"made for {task.gateway}")
    return task
