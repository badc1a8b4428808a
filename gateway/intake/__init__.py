"""Readings in: an MQTT 5 client that hands over what a socket read held, and acknowledges when it is told to.

`framing` turns bytes into messages and `pacing` says when to look away (both pure); `connection` is one connection,
`session` connects for ever. `hearsay` counts what the broker says that it dropped (`drops`, pure).
"""

from __future__ import annotations

from gateway.intake.counters import Counters
from gateway.intake.hearsay import Hearsay
from gateway.intake.session import Intake, tls_context, tls_of

__all__ = ["Counters", "Hearsay", "Intake", "tls_context", "tls_of"]
