"""The numbers of a result, by name: what of a standing job becomes series. Pure.

| in a result | becomes |
|---|---|
| `groups` or `series`: `{"pump/x": {"mean": 1.5}}` | `pump/x.mean` |
| beside `shares`: `values` of a group | `pump/x.q0.99` |
| a number by itself: `intercept` | `intercept` |
| by the names of `features`: `weights`, `mean` | `weights.x` |
| a matrix over `features`: `correlation` | `correlation.x~y`, each pair once |

Other lists (densities, counts, edges, readings) have a shape, and are looked at in the job itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

LARGEST = 1.7e308


def scalars(result: Any) -> dict[str, float]:
    """Give the finite numbers of a result, by name."""
    return {name: float(value) for name, value in _all(result) if _is_number(value)}


def _all(result: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(result, dict):
        return
    groups = result.get("groups", result.get("series"))
    if isinstance(groups, dict):
        for name, group in groups.items():
            yield from _of_group(name, group, _list(result.get("shares")))
    else:
        yield from _of_all(result, _list(result.get("features")))


def _of_group(name: str, group: Any, shares: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    if not isinstance(group, dict):
        return
    for key, value in group.items():
        yield f"{name}.{key}", value
    values = group.get("values")
    if isinstance(values, list) and len(values) == len(shares):
        pairs = zip(shares, values, strict=True)
        yield from ((f"{name}.q{share:g}", value) for share, value in pairs if _is_number(share))


def _of_all(result: dict[str, Any], features: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    for key, value in result.items():
        yield key, value
        if isinstance(value, dict):
            yield from ((f"{key}.{name}", one) for name, one in value.items())
        elif isinstance(value, list) and len(value) == len(features):
            yield from _by_feature(key, value, features)


def _by_feature(key: str, values: Sequence[Any], features: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    for number, (name, value) in enumerate(zip(features, values, strict=True)):
        yield f"{key}.{name}", value
        if isinstance(value, list) and len(value) == len(features):
            pairs = zip(features[number:], value[number:], strict=True)
            yield from ((f"{key}.{name}~{other}", one) for other, one in pairs)


def _list(found: Any) -> list[Any]:
    """Work that others have written may say anything here."""
    return found if isinstance(found, list) else []


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST
