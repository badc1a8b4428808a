"""Which frame goes up next: a pure machine between the spool and one connection."""

from __future__ import annotations

from gateway.delivery.delivery import WEIGHTS, Delivery
from gateway.delivery.instructions import Close, Fork, Gone, Instruction, Release, Send
from gateway.delivery.pace import DEFER_NS, FLOOR, MAX_FRAMES, QUIET_NS, SILENCE_NS

__all__ = [
    "DEFER_NS",
    "FLOOR",
    "MAX_FRAMES",
    "QUIET_NS",
    "SILENCE_NS",
    "WEIGHTS",
    "Close",
    "Delivery",
    "Fork",
    "Gone",
    "Instruction",
    "Release",
    "Send",
]
