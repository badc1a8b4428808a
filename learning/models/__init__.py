"""Models, and the small contract they keep.

    standardiser   each feature in its deviations
    ridge          linear regression, in one step from merged statistics
    softmax        multinomial logistic regression
    perceptron     one hidden layer, for classes
    distance       T2: how far a vector is from what was learnt; and MEWMA, the same of a smoothed one
    autoencoder    how badly a narrow network reproduces a vector

A user's own model is any installed object that keeps the contract (`learning.installed`);
`tests/learning/test_models.py` has the checks for all.
"""

from __future__ import annotations

from learning.models.autoencoder import Autoencoder
from learning.models.contract import Batch, Model, accuracy
from learning.models.descent import Descent
from learning.models.distance import Distance, Smoothed
from learning.models.perceptron import Perceptron
from learning.models.ridge import Ridge
from learning.models.softmax import Softmax
from learning.models.standardiser import Standardiser

__all__ = [
    "Autoencoder",
    "Batch",
    "Descent",
    "Distance",
    "Model",
    "Perceptron",
    "Ridge",
    "Smoothed",
    "Softmax",
    "Standardiser",
    "accuracy",
]
