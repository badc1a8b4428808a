"""Results that wait for the cloud's receipt.

`spool` is the store, `epochs` its directories, `marks` what is receipted, `bodies` what frames say to it.
"""

from __future__ import annotations

from gateway.spool.marks import MARKS
from gateway.spool.spool import MAX_WAITING, Spool

__all__ = ["MARKS", "MAX_WAITING", "Spool"]
