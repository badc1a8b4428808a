"""The configuration page names every key, and only keys that exist, and gives each its default."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cloud import config as of_cloud
from cloud.config import CloudConfig
from gateway import config as of_gateway
from gateway.config import GatewayConfig

PAGE = (Path(__file__).parents[1] / "docs" / "configuration.md").read_text()


def keys(kind: Any) -> Iterator[str]:
    for item in msgspec.structs.fields(kind):
        yield item.encode_name
        for inner in [item.type, *getattr(item.type, "__args__", ())]:
            if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
                yield from keys(inner)


def documented(part: str) -> set[str]:
    names: set[str] = set(re.findall(r"^#+ `\[\[?(\w+)\]\]?`", part, re.MULTILINE))
    names |= set(re.findall(r"\(and `\[(\w+)\]`\)", part))
    for row in re.findall(r"^\| (`[^|]+) \|", part, re.MULTILINE):
        names |= set(re.findall(r"`(\w+)`", row))
    return names


def section(side: str) -> str:
    return next(part for part in re.split(r"^## ", PAGE, flags=re.MULTILINE) if part.startswith(side))


@pytest.mark.parametrize(
    ("side", "kind"), [("Gateway", GatewayConfig), ("Cloud", CloudConfig)], ids=["gateway", "cloud"]
)
def test_every_key_is_documented_and_every_documented_key_exists(side: str, kind: Any) -> None:
    assert documented(section(side)) == set(keys(kind))


REQUIRED: dict[str, Any] = {
    "name": "g",
    "data": "d",
    "topic": "s/{device}/{measurement}",
    "when": "value > 1",
    "url": "mqtt://host:1883",
    "channels": ["x"],
    "label": "state",
    "classes": 3,
    "samples": 16,
    "work": "moments",
    "model": "m",
    "large": "big",
}
"""Something for each key that is required."""

LIKE_ANOTHER = {"hop"}
"""Keys whose default is another key's value."""


def written(text: str) -> tuple[str, str]:
    """Turn a side's tables into two configurations: with nothing but what is required, and with every default too."""
    shortest, whole = [], []
    for line in text.splitlines():
        if heading := re.match(r"### `(\[.+?\])`", line):
            shortest.append(heading[1])
            whole.append(heading[1])
        elif row := re.match(r"\| (`\w+`(?:, `\w+`)*) \| (.+?) \|", line):
            lines = list(settings(re.findall(r"`(\w+)`", row[1]), row[2]))
            whole += lines
            shortest += lines if row[2] == "required" else []
    return "\n".join(shortest), "\n".join(whole)


def settings(names: list[str], default: str) -> Iterator[str]:
    """Write a row's keys with their default, unless that is said in words."""
    if default == "required":
        yield from (f"{name} = {json.dumps(REQUIRED[name])}" for name in names)
    elif re.fullmatch(r"`[^`]+`(, `[^`]+`)*", default) and not LIKE_ANOTHER.intersection(names):
        values = re.findall(r"`([^`]+)`", default)
        for name, value in zip(names, values if len(values) > 1 else values * len(names), strict=True):
            yield f"{name} = {value if is_toml(value) else json.dumps(value)}"


def is_toml(value: str) -> bool:
    try:
        tomllib.loads(f"value = {value}")
    except tomllib.TOMLDecodeError:
        return False
    return True


@pytest.mark.parametrize(
    ("side", "parse"), [("Gateway", of_gateway.parse), ("Cloud", of_cloud.parse)], ids=["gateway", "cloud"]
)
def test_a_default_written_out_changes_nothing(side: str, parse: Callable[[str], Any]) -> None:
    shortest, whole = written(section(side))
    assert whole.count("\n") > 1.5 * shortest.count("\n"), "defaults are found"
    assert msgspec.structs.asdict(parse(whole)) == msgspec.structs.asdict(parse(shortest))
