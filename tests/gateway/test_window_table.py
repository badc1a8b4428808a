"""The index of windows: sorted, whatever comes and goes."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gateway.window.table import Index

keys = st.sets(st.integers(1 << 40, 1 << 62) | st.integers(-40, 40), max_size=12)
steps = st.lists(st.tuples(keys, st.floats(0, 1)), max_size=12)


@given(steps)
def test_an_index_is_what_a_sorted_dictionary_would_be(script: list[tuple[set[int], float]]) -> None:
    index, model = Index(), dict[int, int]()
    for coming, share in script:
        new = [key for key in coming if key not in model]  # in any order
        slots = range(len(model), len(model) + len(new))
        index.add(np.array(new, np.int64), np.array(slots, np.int64))
        model |= dict(zip(new, slots, strict=True))
        ordered = sorted(model)
        assert index.find(np.array([*ordered, 50], np.int64)).tolist() == [*(model[key] for key in ordered), -1]
        going = ordered[: round(share * len(ordered))][:: 1 + len(coming) % 2]
        taken, where = index.take(np.array([ordered.index(key) for key in going], np.intp))
        assert dict(zip(taken.tolist(), where.tolist(), strict=True)) == {key: model.pop(key) for key in going}
        assert index.keys.tolist() == sorted(model)
        assert index.slots.tolist() == [model[key] for key in sorted(model)]
        assert len(index) == len(model)
        assert index.nbytes >= 16 * len(model)
