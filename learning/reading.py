"""What strangers say, read with care: numbers and arrays of a State, or ModelRefused with what was found and where."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from protocol.columns import decode_state
from protocol.errors import FrameRefused, ModelRefused

MAX_WEIGHT = float(1 << 53)
"""Vectors or values in one statistic: counts are added as floats."""


def state(data: bytes, schema: str, reason: str) -> dict[str, Any]:
    """Read a State that says it is of this schema; ModelRefused(reason)."""
    found = _state(data, reason)
    said = found.get("schema")
    if not isinstance(said, str) or said != schema:
        raise ModelRefused(reason, f"schema {str(said)[:64]!r}, expected {schema!r}")
    return found


def schema_of(data: bytes, reason: str) -> str:
    """Give the schema that a State says it is of, whatever that is; ModelRefused(reason) for no State."""
    return str(_state(data, reason).get("schema"))


def _state(data: bytes, reason: str) -> dict[str, Any]:
    try:
        return decode_state(data)
    except FrameRefused as error:
        raise ModelRefused(reason, str(error)) from error


def array(state: Mapping[str, Any], key: str, dtype: DTypeLike, shape: tuple[int, ...], reason: str) -> NDArray[Any]:
    """Give state[key], finite and of this dtype and shape, where -1 is any length; ModelRefused(reason)."""
    found = state.get(key)
    if not isinstance(found, np.ndarray) or found.dtype != np.dtype(dtype) or found.ndim != len(shape):
        raise ModelRefused(reason, f"{key} is no {np.dtype(dtype)} array of {len(shape)} dimensions")
    if any(size not in (-1, there) for size, there in zip(shape, found.shape, strict=True)):
        raise ModelRefused(reason, f"{key} is of shape {found.shape}, expected {shape}")
    return finite(key, found, reason)


def number(state: Mapping[str, Any], key: str, reason: str, most: float = MAX_WEIGHT) -> float:
    """Give state[key], a finite float from 0 to `most`; ModelRefused(reason)."""
    found = state.get(key)
    if not isinstance(found, float) or not 0 <= found <= most:
        raise ModelRefused(reason, f"{key} is {found!r:.64}, expected a number from 0 to {most:g}")
    return found


def finite(key: str, values: NDArray[Any], reason: str) -> NDArray[Any]:
    """Give the same values if all are finite; ModelRefused(reason) with the first that is not, and where."""
    sound = np.isfinite(values)
    if not sound.all():
        place = np.unravel_index(int(np.argmin(sound)), values.shape)
        where = ", ".join(str(int(index)) for index in place)
        raise ModelRefused(reason, f"{key}[{where}] is {float(values[place])!r}")
    return values


def norm(vector: NDArray[Any]) -> float:
    """Give the length of a vector, added up in float64."""
    return math.sqrt(float(np.vdot(wide := vector.astype(np.float64), wide)))
