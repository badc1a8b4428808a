"""The way to the cloud: a WebSocket, frames up, receipts down."""

from __future__ import annotations

from gateway.uplink.conversation import Held
from gateway.uplink.link import tls_context
from gateway.uplink.meter import Meter
from gateway.uplink.uplink import Uplink

__all__ = ["Held", "Meter", "Uplink", "tls_context"]
