"""How fast this machine reads a journal, before a task has measured it: a record like many is read again and again."""

from __future__ import annotations

from statistics import median
from time import perf_counter

import numpy as np

from gateway.journal import decode_record, encode_record
from gateway.records import Readings, ReadingsRecord

ROWS = 200
TIMES = 20
"""Readings of the record: 5 ms on a PC, 25 on a Pi."""

MORE = 1.9
"""What a task does with a record beside decoding it (`tests/bench/work.py`, `as_recorded`), and making blocks of it."""


def seconds() -> float:
    """Give the seconds that reading 10^6 bytes of the journal as recorded is thought to cost."""
    number = np.arange(ROWS)
    values = np.round(20 + np.sin(number * 0.7) + number * 0.618 % 1, 2)
    readings = Readings((number % 100).astype(np.int32), number * 10**7, values)
    kind, body = encode_record(ReadingsRecord(0, readings))
    decode_record(kind, body)  # what is done once only
    took = []
    for _ in range(TIMES):
        began = perf_counter()
        decode_record(kind, body)
        took.append(perf_counter() - began)
    return MORE * median(took) / len(body) * 1e6
