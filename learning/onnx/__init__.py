"""Models that were made elsewhere and saved as ONNX: looked through, run, and carried as classifiers are. Pure.

| part | what it is |
|---|---|
| walk | what is in a file, before any library reads it: data that lie elsewhere, operators that are not ONNX's |
| network | what runs one, by onnxruntime (the extra `onnx`) |
| exported | one with the windows it is for, as it travels: the schema `onnx/1` |
"""

from __future__ import annotations

from learning.onnx.exported import MAX_BYTES, SCHEMA, Exported, decode, encode, proven
from learning.onnx.network import Network, load_runtime
from learning.onnx.walk import Found, examine, is_onnx

__all__ = [
    "MAX_BYTES",
    "SCHEMA",
    "Exported",
    "Found",
    "Network",
    "decode",
    "encode",
    "examine",
    "is_onnx",
    "load_runtime",
    "proven",
]
