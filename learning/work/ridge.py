"""`ridge`: a linear model of `target` from `features`, from X'X and X'y over rows side by side (`aligned`).

Parts are those of `covariance`, of features and target together: centred, so that what is far from 0 costs nothing
(`learning.regression`). The penalty is added to the scatter of the features, never to the intercept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta

from learning import regression
from learning.work import covariance
from learning.work.aligned import Features, Step, check_features
from learning.work.contract import Batch
from protocol.errors import ModelRefused


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is foretold, and from what; `step` in ns."""

    features: Features
    target: str
    step: Step
    penalty: Annotated[float, Meta(gt=0, le=1e12)] = 1e-6

    def __post_init__(self) -> None:
        """Refuse features that cannot be."""
        check_features(self.columns)

    @property
    def columns(self) -> tuple[str, ...]:
        """What rows are made of."""
        return (*self.features, self.target)


class Ridge:
    """See `learning.work.contract`."""

    name = "ridge"
    version = 1
    params = Params
    raw = False

    def map(self, batches: Iterable[Batch], params: Params) -> bytes:
        """Give the statistics of rows."""
        return covariance.encode(covariance.of(batches, params.columns, params.step))

    def merge(self, parts: Sequence[bytes], params: Params) -> bytes:
        """Add them up."""
        return covariance.encode(covariance.merge(parts, len(params.columns)))

    def result(self, part: bytes, params: Params) -> dict[str, Any]:
        """Give weights, intercept, share of the variance explained, X'X and X'y (neither centred)."""
        rows = covariance.decode(part, len(params.columns))
        size, found = len(params.features), rows.statistics
        try:
            weights, intercept = regression.solve(found, size, params.penalty)
        except np.linalg.LinAlgError as error:
            raise ModelRefused("part", f"no solution: {error}") from error
        square, product = regression.products(found, size)
        return covariance.said(rows, params.columns) | {
            "weights": dict(zip(params.features, weights[:, 0].tolist(), strict=True)),
            "intercept": float(intercept[0]),
            "explained": _explained(found.scatter, weights[:, 0], size),
            "xtx": square.tolist(),
            "xty": product[:, 0].tolist(),
        }


def _explained(scatter: Any, weights: Any, size: int) -> float | None:
    total = float(scatter[size, size])
    left = total - 2 * float(weights @ scatter[:size, size]) + float(weights @ scatter[:size, :size] @ weights)
    return 1.0 - left / total if total > 0 else None


ridge = Ridge()
