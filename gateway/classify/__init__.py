"""What a promoted classifier is good for here: it says of each window that ends what its class is. Pure.

    readings ▶ `windows` ▶ features ▶ `line`: every version's word ▶ the class that is said
                              │           └──── `labels` that come later ▶ `trust`: whose word is said
                              └▶ `drift`
    what is said, and how sure that is ▶ `ask`: which windows a larger model in the cloud is asked about

Fed with readings as they were recorded, after their commit; nothing of it is in a checkpoint. What a version was, and
what `trust` has decided for good, is in `snapshot`; the rest is made anew of readings as they come.
"""

from __future__ import annotations

from gateway.classify.classify import CANDIDATE, Classify, Step
from gateway.classify.line import Line, Said, Word

__all__ = ["CANDIDATE", "Classify", "Line", "Said", "Step", "Word"]
