"""Which form states a column in the fewest bytes.

`quick` looks at ranges only. `smallest` packs the most promising forms and keeps what lz4 makes smallest, since a
regular column (a ramp, a repetition) may have a large range and still cost nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import lz4.block
import numpy as np
from numpy.typing import NDArray

from protocol.columns import integers, numbers
from protocol.columns.form import AGAINST, DELTA, NONE, Form, Odd
from protocol.columns.integers import BYTES, PLANES, TENS
from protocol.columns.numbers import BITS, DECIMAL, SUM, Array, Integers, Whole

PROMISING = 2
"""How many forms `smallest` packs, those of the smallest range; more gained less than 1 % and cost as much again."""


class Known(NamedTuple):
    """What is known of a column: the counts whose mean it is, the column that foretells it; (index, array) each."""

    counts: tuple[int, Array] | None = None
    near: tuple[int, Array] | None = None


class Chosen(NamedTuple):
    """A form and the bytes it leaves."""

    form: Form
    payload: bytes
    odd: Odd | None = None


class _Candidate(NamedTuple):
    form: Form
    offsets: NDArray[np.uint64]
    range: int
    odd: Odd | None


def quick(column: Array) -> Chosen:
    """State a column of at least one row as whole bytes, by range alone."""
    whole = numbers.decimal(column) if column.dtype.kind == "f" else None
    if whole is not None:
        best = _narrower(Form(DECIMAL, whole.scale), whole.integers, _odd(column, whole))
        if not best.range >> (8 * column.itemsize):
            return _pack(best, BYTES)
    return _pack(_narrower(Form(), numbers.bits(column), None), BYTES)


def smallest(column: Array, known: Known) -> Chosen:
    """State a column of at least one row in the fewest bytes."""
    candidates = sorted(_candidates(column, known), key=lambda candidate: candidate.range)
    best: Chosen | None = None
    least = 0
    for candidate in candidates[:PROMISING]:
        for packing in (PLANES, BYTES):
            chosen = _pack(candidate, packing)
            size = len(lz4.block.compress(chosen.payload, store_size=False)) + (chosen.odd.size if chosen.odd else 0)
            if best is None or size < least:
                best, least = chosen, size
            if not chosen.payload and chosen.odd is None:
                return chosen
    assert best is not None  # the bits are always among the candidates
    return best


def _narrower(form: Form, values: Integers, odd: Odd | None) -> _Candidate:
    """Take the differences of neighbours unless they spread more than the values, as noise does (1.4 times)."""
    plain = integers.spread(values)
    if plain.range and len(values) > 2:
        steps = values[1:] - values[:-1]
        step = integers.spread(steps)
        if step.range * 4 <= plain.range * 5:
            stated = Form(form.source, form.scale, DELTA, form.reference, step.base, int(values[0]))
            return _Candidate(stated, integers.offsets(steps, step.base), step.range, odd)
    stated = Form(form.source, form.scale, NONE, form.reference, plain.base)
    return _Candidate(stated, integers.offsets(values, plain.base), plain.range, odd)


def _candidates(column: Array, known: Known) -> Iterator[_Candidate]:
    for form, values, odd in _sources(column, known):
        yield _candidate(form, values, odd)
        if len(values) > 1:
            steps = form._replace(prediction=DELTA, first=int(values[0]))
            yield _candidate(steps, values[1:] - values[:-1], odd)
        if form.source == DECIMAL and known.near is not None:
            reference, foretold = known.near
            against = form._replace(prediction=AGAINST, reference=reference)
            yield _candidate(against, values - numbers.foretell(foretold, form.scale), odd)


def _sources(column: Array, known: Known) -> Iterator[tuple[Form, Integers, Odd | None]]:
    yield Form(BITS), numbers.bits(column), None
    if column.dtype.kind == "f":
        if (whole := numbers.decimal(column)) is not None:
            yield Form(DECIMAL, whole.scale), whole.integers, _odd(column, whole)
        if known.counts is not None and (whole := numbers.decimal(column, known.counts[1])) is not None:
            yield Form(SUM, whole.scale, reference=known.counts[0]), whole.integers, _odd(column, whole)


def _candidate(form: Form, values: Integers, odd: Odd | None) -> _Candidate:
    base, most = integers.spread(values)
    return _Candidate(form._replace(base=base), integers.offsets(values, base), most, odd)


def _odd(column: Array, whole: Whole) -> Odd | None:
    return None if whole.odd is None else Odd(whole.odd.astype(np.uint32), column[whole.odd])


def _pack(candidate: _Candidate, packing: int) -> Chosen:
    form, offsets, most, odd = candidate
    power = integers.divisor(offsets) if form.source == BITS and most >= 1000 else 0
    if power:
        offsets, most = offsets // np.uint64(TENS[power]), most // TENS[power]
    width = most.bit_length() if packing == PLANES else (most.bit_length() + 7) // 8
    payload = integers.pack(offsets, packing, width)
    return Chosen(Form(*form[:6], packing, power, width), payload, odd)
