"""What an ONNX file holds, read field by field before any library sees it. Needs no library of ONNX.

Rules:

1. All messages in which a tensor may be are walked, as onnx.proto of ONNX 1.23 has them; a field that is not there is
   refused, so that nothing is passed over which a runtime might read.
2. A tensor whose data lie elsewhere (`data_location`, `external_data`) is refused, in whatever graph, attribute or
   function it is: all of a model is in its bytes.
3. Operators are ONNX's (`ai.onnx`, `ai.onnx.ml`), or functions that the file itself brings. None repeats others
   (LOOPS), so its size bounds how long a model takes.

| reason | why |
|---|---|
| size | more bytes than may be |
| content | no ONNX, or more nested than MAX_DEPTH, or a field that is not known here |
| external | rule 2 |
| operators | rule 3 |
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from protocol.errors import ModelRefused

MAX_DEPTH = 32
FIRST = b"\x08"
"""The tag of `ir_version`, with which what writes ONNX begins; no State of ours does."""

OURS = ("", "ai.onnx", "ai.onnx.ml")
LOOPS = frozenset({"Loop", "Scan", "SequenceMap"})
RESERVED = ("ai.onnx", "com.microsoft")
"""Domains of operators that a file's own functions may not be in: a runtime may have others of that name."""

EXTERNAL_DATA, DATA_LOCATION = 13, 14  # of a tensor
VARINT, FIXED64, TEXT, FIXED32 = 0, 1, 2, 5

OPAQUE = ""
Fields = dict[int, str]


def _fields(opaque: str, **children: tuple[int, ...]) -> Fields:
    """Give a message's fields: those of no interest by number, and the numbers of each kind of child."""
    known = dict.fromkeys(map(int, opaque.split()), OPAQUE)
    return known | {number: kind for kind, numbers in children.items() for number in numbers}


MESSAGES: dict[str, Fields] = {
    "model": _fields("1 2 3 4 5 6", graph=(7,), opset=(8,), metadata=(14,), function=(25,)),
    "graph": _fields("2 10 11 12 13 14 16", node=(1,), tensor=(5,), sparse=(15,)),
    "node": _fields("1 2 3 4 6 7 8 9", attribute=(5,)),
    "attribute": _fields("1 2 3 4 7 8 9 13 14 15 20 21", tensor=(5, 10), graph=(6, 11), sparse=(22, 23)),
    "tensor": _fields("1 2 3 4 5 6 7 8 9 10 11 12 13 14 16"),
    "sparse": _fields("3", tensor=(1, 2)),
    "function": _fields("1 4 5 6 8 10 12 13 14", node=(7,), opset=(9,), attribute=(11,)),
    "opset": _fields("1 2"),
    "metadata": _fields("1 2"),
}

NOTED = {"node": (4, 7), "function": (1, 10), "metadata": (1, 2)}
"""Fields of a message that are text of interest."""

SHORT = b"|".join(b"%s.{%d}" % (re.escape(bytes([size])), size) for size in range(16))
RUNS = re.compile(rb"(?:\x3d.{4}|\x40[\x80-\xff]{0,9}[\x00-\x7f]|\x4a(?:" + SHORT + rb"))++", re.DOTALL)
"""Floats, whole numbers and short texts of an attribute, one field each: a forest has a million of them."""


@dataclass(slots=True)
class Found:
    """What a file holds."""

    metadata: dict[str, str] = field(default_factory=dict)  # metadata_props
    called: set[tuple[str, str]] = field(default_factory=set)  # domain and name of each operator
    functions: set[tuple[str, str]] = field(default_factory=set)  # that it brings
    graphs: int = 0


def is_onnx(content: bytes) -> bool:
    """Whether it begins as an ONNX file does."""
    return content.startswith(FIRST)


def examine(model: bytes, most: int) -> Found:
    """Look through a file of at most so many bytes; ModelRefused by the rules above."""
    if len(model) > most:
        raise ModelRefused("size", f"an ONNX file of {len(model)} bytes, {most} at most")
    if not is_onnx(model):
        raise ModelRefused("content", "no ONNX file: it would begin with its ir_version")
    found = Found()
    try:
        _walk(memoryview(model), "model", found, MAX_DEPTH)
    except (IndexError, UnicodeDecodeError) as error:
        raise ModelRefused("content", "no ONNX file: it is cut off, or damaged") from error
    if not found.graphs:
        raise ModelRefused("content", "no ONNX file: there is no graph in it")
    _check_operators(found)
    return found


def _check_operators(found: Found) -> None:
    brought = {one for one in found.functions if not one[0].startswith(RESERVED) and one[0]}
    strange = sorted(one for one in found.called - brought if one[0] not in OURS)
    strange += sorted(found.functions - brought)
    strange += sorted(one for one in found.called - brought if one[1] in LOOPS)
    if strange:
        domain, name = strange[0]
        raise ModelRefused(
            "operators", f"{name:.64} of {domain!r:.64}: export it with operators of ai.onnx that repeat no others"
        )


def _walk(message: memoryview, kind: str, found: Found, depth: int) -> None:
    if not depth:
        raise ModelRefused("content", f"more than {MAX_DEPTH} messages in one another")
    known, own = MESSAGES[kind], dict[int, str]()
    found.graphs += kind == "graph"
    for number, wire, value in _read(message, kind):
        if number not in known:
            raise ModelRefused("content", f"field {number} of a {kind}, which is not known here")
        if child := known[number]:
            if not isinstance(value, memoryview):
                raise ModelRefused("content", f"field {number} of a {kind} is no message")
            _walk(value, child, found, depth - 1)
        elif kind == "tensor":
            _check_tensor(number, value)
        elif isinstance(value, memoryview) and wire == TEXT and number in NOTED.get(kind, ()):
            own[number] = str(value, "utf-8")
    _keep(kind, own, found)


def _check_tensor(number: int, value: int | memoryview) -> None:
    if number == EXTERNAL_DATA or (number == DATA_LOCATION and value != 0):
        raise ModelRefused("external", "data of it lie in another file: save the model with all its data in one")


def _keep(kind: str, own: dict[int, str], found: Found) -> None:
    match kind:
        case "node":
            found.called.add((own.get(7, ""), own.get(4, "")))
        case "function":
            found.functions.add((own.get(10, ""), own.get(1, "")))
        case "metadata":
            found.metadata[own.get(1, "")] = own.get(2, "")


def _read(message: memoryview, kind: str) -> Iterator[tuple[int, int, int | memoryview]]:
    """Give a message's fields: number, wire type, and value. IndexError where it ends too early."""
    at, end = 0, len(message)
    while at < end:
        if kind == "attribute" and (run := RUNS.match(message, at)):
            at = run.end()
            continue
        tag, at = _varint(message, at)
        number, wire = tag >> 3, tag & 7
        if wire == VARINT:
            value, at = _varint(message, at)
            yield number, wire, value
            continue
        size, at = _varint(message, at) if wire == TEXT else ({FIXED64: 8, FIXED32: 4}.get(wire, end), at)
        if at + size > end:
            raise IndexError
        yield number, wire, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    raise IndexError
