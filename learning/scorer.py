"""What says the class of a window: a classifier that gateways learnt together, or an ONNX model from elsewhere."""

from __future__ import annotations

from learning import classifier, onnx, reading
from learning.classifier import Classifier
from learning.onnx import Exported
from protocol.errors import ModelRefused

Scorer = Classifier | Exported
"""Both have `dataset`, `predict` and `accuracy`; the first learns, and knows how far windows are from what it knows."""

SCHEMAS = (classifier.SCHEMA, onnx.SCHEMA)

CHECKS = {classifier.SCHEMA: classifier.decode, onnx.SCHEMA: onnx.proven}
"""What reads a content by its schema; ModelRefused if it may not score here."""


def schema_of(content: bytes) -> str:
    """Say which of both a content says it is; ModelRefused("content") if neither."""
    said = reading.schema_of(content, "content")
    if said not in SCHEMAS:
        raise ModelRefused("content", f"schema {said[:64]!r}, expected one of {', '.join(SCHEMAS)}")
    return said


def decode(content: bytes) -> Scorer:
    """Read a content; ModelRefused for whatever may not score. An ONNX model is run when it is asked first."""
    return classifier.decode(content) if schema_of(content) == classifier.SCHEMA else onnx.decode(content)
