"""A question about raw history: sent to where the readings are, against sending the readings to where it is asked.

`history` writes journals, `fleet` runs gateways and a cloud over links of a known rate, `central` computes the same in
one place, `rows` measures.
"""

from __future__ import annotations

from tests.bench.jobs.rows import READINGS, measure

__all__ = ["READINGS", "measure"]
