"""Text becomes one frozen value, or a refusal that an operator can act on."""

from __future__ import annotations

from typing import Literal

import msgspec
import pytest

from protocol.errors import ConfigurationRefused
from protocol.settings import (
    UNITS_BYTES,
    UNITS_NS,
    Duration,
    Section,
    Size,
    convert,
    parse_quantity,
    parse_toml,
    written,
)


class Inner(Section, frozen=True):
    """A section inside another."""

    wait: Duration = Duration(0)
    room: Size = Size(0)
    colour: Literal["red", "green"] = "red"


class Outer(Section, frozen=True):
    """A file."""

    name: str
    inner: Inner = Inner()
    many: tuple[Inner, ...] = ()
    limits: dict[str, int] = msgspec.field(default_factory=dict)


@pytest.mark.parametrize(
    ("text", "units", "value"),
    [
        pytest.param("500ms", UNITS_NS, 500_000_000, id="milliseconds"),
        pytest.param("1.5 s", UNITS_NS, 1_500_000_000, id="fraction and space"),
        pytest.param("9223372036854775807ns", UNITS_NS, 9223372036854775807, id="no rounding of whole numbers"),
        pytest.param("64MiB", UNITS_BYTES, 64 << 20, id="binary size"),
        pytest.param("2GB", UNITS_BYTES, 2_000_000_000, id="decimal size"),
    ],
)
def test_a_quantity_is_a_number_and_a_unit(text: str, units: dict[str, int], value: int) -> None:
    assert parse_quantity(text, units, "") == value


@pytest.mark.parametrize("text", ["", "5", "s", "-1s", "1 fortnight", "1e3s", "1s1s"])
def test_what_is_no_quantity_is_refused_with_the_expectation(text: str) -> None:
    with pytest.raises(ValueError, match="a duration"):
        parse_quantity(text, UNITS_NS, "a duration")


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        pytest.param("name =", "f.toml: (syntax) = ", id="syntax"),
        pytest.param(
            'nam = "a"', "f.toml: nam = 'a': expected one of inner, limits, many, name (did you mean", id="near"
        ),
        pytest.param('name = "a"\nzzz = 1', "f.toml: zzz = 1: expected one of inner, limits, many, name", id="far"),
        pytest.param("", "f.toml: name = None: expected a value: this key is required", id="missing"),
        pytest.param("name = 5", "f.toml: name = 5: expected str", id="wrong type"),
        pytest.param('name = "a"\n[inner]\nwait = 5', "f.toml: inner.wait = 5: expected a duration with", id="unit"),
        pytest.param('name = "a"\n[inner]\nroom = "5s"', "f.toml: inner.room = '5s': expected a size with", id="size"),
        pytest.param(
            'name = "a"\n[[many]]\n[[many]]\ncolour = "blue"',
            "f.toml: many[1].colour = 'blue': expected one of 'red', 'green'",
            id="choice in an array",
        ),
    ],
)
def test_a_refusal_names_file_key_value_and_expectation(text: str, refusal: str) -> None:
    with pytest.raises(ConfigurationRefused) as refused:
        convert(parse_toml(text, "f.toml"), Outer, "f.toml")
    assert str(refused.value).startswith(refusal)


def test_a_good_file_is_one_value() -> None:
    text = 'name = "a"\n[inner]\nwait = "2s"\nroom = "1kB"\n[limits]\nx = 3\n'
    assert convert(parse_toml(text, ""), Outer, "") == Outer(
        name="a", inner=Inner(wait=Duration(2 * 10**9), room=Size(1000)), limits={"x": 3}
    )


@pytest.mark.parametrize(
    ("ns", "text"),
    [(0, "0s"), (1, "1ns"), (1_500_000, "1500us"), (10**9, "1s"), (90 * 10**9, "90s"), (7200 * 10**9, "2h")],
)
def test_a_duration_is_told_as_one_would_write_it(ns: int, text: str) -> None:
    assert written(ns) == text
    assert parse_quantity(text, UNITS_NS, "") == ns
