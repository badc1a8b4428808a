"""What somebody brings as a model: a State of ours as it is, or an ONNX file, made ready to travel. Pure.

An ONNX file needs to be told which windows it is for. Those are the training's of its name (of `NAME` for `NAME.next`),
or what its metadata_props say, `fieldgate.channels` ("x,y") and so on. What both say must be the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from learning import onnx
from protocol.errors import ModelRefused
from protocol.training import Dataset

NEXT = ".next"
PREFIX = "fieldgate."
NEEDED = ("channels", "label", "classes", "samples", "features")


def brought(content: bytes, model: str, trainings: Mapping[str, Dataset]) -> bytes:
    """Give the bytes that are published; ModelRefused says what is wrong, what was expected, and what to do."""
    if not onnx.is_onnx(content):
        return content
    found = onnx.examine(content, onnx.MAX_BYTES)
    said = dict(_said(found.metadata))
    name = model.removesuffix(NEXT)
    dataset = _agreed(name, trainings[name], said) if name in trainings else _told(name, said)
    packed = onnx.encode(dataset, content)
    try:
        onnx.proven(packed)
    except ModelRefused as refused:
        if refused.reason != "runtime":  # then gateways find out
            raise
    return packed


def _said(metadata: Mapping[str, str]) -> Iterator[tuple[str, object]]:
    """Give what a file says of its windows, by the dataset's key."""
    for key, text in metadata.items():
        name = key.removeprefix(PREFIX)
        if key == name:
            continue
        if name not in Dataset.__struct_fields__:
            raise ModelRefused("dataset", f"{key} in its metadata_props: expected {_keys(Dataset.__struct_fields__)}")
        value = tuple(part.strip() for part in text.split(",")) if name == "channels" else text
        yield name, value


def _agreed(name: str, dataset: Dataset, said: dict[str, object]) -> Dataset:
    for key, value in said.items():
        own = getattr(dataset, key)
        if value != (own if key == "channels" else str(own)):
            raise ModelRefused(
                "dataset",
                f"{PREFIX}{key} is {value!r} in its metadata_props, and {own!r} in [[training]] {name}: "
                "export it for these windows, or push it under another name",
            )
    return dataset


def _told(name: str, said: dict[str, object]) -> Dataset:
    if missing := [key for key in NEEDED if key not in said]:
        raise ModelRefused(
            "dataset",
            f"nobody says which windows it is for: there is no [[training]] {name}, and its metadata_props have no "
            f"{_keys(missing)}: push it under a training's name, or save it with these",
        )
    try:
        hop = {"hop": max(int(str(said["samples"])) // 2, 1)}
        return msgspec.convert(hop | said, Dataset, strict=False)
    except (msgspec.ValidationError, ValueError) as error:
        raise ModelRefused("dataset", f"metadata_props: {error}") from error


def _keys(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(PREFIX + name for name in names)
