"""The configuration page names every key, and only keys that exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cloud.config import CloudConfig
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


@pytest.mark.parametrize(
    ("side", "kind"), [("Gateway", GatewayConfig), ("Cloud", CloudConfig)], ids=["gateway", "cloud"]
)
def test_every_key_is_documented_and_every_documented_key_exists(side: str, kind: Any) -> None:
    part = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    text = next(section for section in part if section.startswith(side))
    assert documented(text) == set(keys(kind))
