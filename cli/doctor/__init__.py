"""`fieldgate gateway doctor`: is everything there that a gateway needs, and what is to be done if not.

`probe` measures, `facts` are what it measured, `judge` says what that means (pure), `report` lays it out; `examine`
runs the probes side by side. Rules:

1. Every check gives one finding, whatever became of the others; what could not be found out is skipped with the reason.
2. Every probe has a deadline.
3. A gateway that runs is not disturbed: neither its session with the broker, nor its lock, nor its place in the cloud.
"""

from __future__ import annotations
