"""`fieldgate gateway journal|spool stat|verify|repair`: what a gateway keeps on its disk, and whether it is whole.

`stat` and `verify` only read, and take no lock: a gateway may be running. `repair` is what a start does first, made
explicit; it needs the gateway to be stopped.
"""

from __future__ import annotations

from cli.storage.show import repair, stat, verify

__all__ = ["repair", "stat", "verify"]
