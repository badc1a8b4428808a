"""Reading settings: TOML text into one frozen value, or a refusal that says key, value, expectation and a near name.

Durations are text such as "500ms", "10s", "1h" and become integer nanoseconds; sizes such as "2GiB" become bytes. What
a gateway's file and a cloud's file may say is theirs; how either is read, and how an error reads, is the same.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec

from protocol.errors import ConfigurationRefused

UNITS_NS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9, "d": 86400 * 10**9}
UNITS_BYTES = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
"""What a gateway may be called."""
RESERVED = ("admin", "cloud")
"""But for these: a token, and the series of standing jobs, are called so."""


class Duration(int):
    """Nanoseconds, written as text with a unit: "500ms"."""


class Size(int):
    """Bytes, written as text with a unit: "64MiB"."""


Contradiction = tuple[str, object, str]
"""Key, value and expectation of something that is wrong."""


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What all sections share: they do not change, and an unknown key is refused."""


def parse_quantity(text: str, units: dict[str, int], expectation: str) -> int:
    """Read "1.5s" or "64MiB" into an integer of the smallest unit; ValueError says what was expected."""
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]+)\s*", text)
    if match is None or match[2] not in units:
        raise ValueError(expectation)
    number = int(match[1]) if match[1].isdigit() else float(match[1])
    return round(number * units[match[2]])


def written(ns: int) -> str:
    """Give a duration as one would write it: in the largest unit of which it is a whole number."""
    unit = next((unit for unit, size in reversed(UNITS_NS.items()) if ns and ns % size == 0), "s")
    return f"{ns // UNITS_NS[unit]}{unit}"


def _hook(kind: type, value: object) -> object:
    if kind is Duration:
        expectation = 'a duration with its unit, such as "500ms", "10s" or "1h"'
        if isinstance(value, str):
            return Duration(parse_quantity(value, UNITS_NS, expectation))
        raise ValueError(expectation)
    if kind is Size:
        expectation = 'a size with its unit, such as "64MiB" or "2GiB"'
        if isinstance(value, str):
            return Size(parse_quantity(value, UNITS_BYTES, expectation))
        raise ValueError(expectation)
    raise NotImplementedError(kind)


T = TypeVar("T")


def convert(table: dict[str, Any], kind: type[T], file: str) -> T:
    """Turn a parsed TOML table into a section type; ConfigurationRefused names the key, its value, the expectation."""
    try:
        return msgspec.convert(table, kind, dec_hook=_hook)
    except msgspec.ValidationError as error:
        raise _explain(str(error), table, kind, file) from None


def parse_toml(text: str, file: str) -> dict[str, Any]:
    """Parse TOML; a syntax error is refused with its line."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationRefused("(syntax)", str(error), "valid TOML", file=file) from None


def _explain(message: str, table: dict[str, Any], kind: type, file: str) -> ConfigurationRefused:
    what, _, path = message.partition(" - at `$")
    path = path.rstrip("`").lstrip(".")
    if unknown := re.search(r"unknown field `(.+?)`", what):
        key = f"{path}.{unknown[1]}" if path else unknown[1]
        known = _known_keys(kind, path)
        close = difflib.get_close_matches(unknown[1], known, 1, 0.5)
        expectation = "one of " + ", ".join(sorted(known))
        return ConfigurationRefused(
            key, _lookup(table, key), expectation, file=file, suggestion=close[0] if close else ""
        )
    if missing := re.search(r"missing required field `(.+?)`", what):
        key = f"{path}.{missing[1]}" if path else missing[1]
        return ConfigurationRefused(key, None, "a value: this key is required", file=file)
    what = re.sub(r"^Expected `(.+?)`, got `.+?`$", r"\1", what)
    what = re.sub(r"^Invalid enum value .*$", _choices(kind, path), what)
    return ConfigurationRefused(path or "(file)", _lookup(table, path), what, file=file)


def _steps(path: str) -> Iterator[str | int]:
    for name, index in re.findall(r"([^.\[\]]+)|\[(\d+|\.\.\.)\]", path):
        yield name or (int(index) if index.isdigit() else 0)


def _lookup(table: Any, path: str) -> object:
    for step in _steps(path):
        try:
            table = table[step]
        except (KeyError, IndexError, TypeError):
            return None
    return table


def _type_at(kind: Any, path: str) -> Any:
    for step in _steps(path):
        if isinstance(step, str) and isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            fields = {item.encode_name: item.type for item in msgspec.structs.fields(kind)}
            kind = fields.get(step, object)
        for inner in getattr(kind, "__args__", ()):
            if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
                kind = inner
    return kind


def _known_keys(kind: type, path: str) -> list[str]:
    inner = _type_at(kind, path)
    if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
        return [item.encode_name for item in msgspec.structs.fields(inner)]
    return []


def _choices(kind: type, path: str) -> str:
    return "one of " + ", ".join(repr(choice) for choice in getattr(_type_at(kind, path), "__args__", ()))
