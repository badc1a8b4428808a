"""The way to the cloud: a WebSocket, frames up, receipts down."""

from __future__ import annotations

from gateway.uplink.uplink import Held, Uplink

__all__ = ["Held", "Uplink"]
