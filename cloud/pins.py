"""Which gateway is kept at which version of a model, whatever is newer. Pure.

Rules:

1. A pin for all holds the model: nothing is promoted or merged until it is taken off.
2. A pin for one gateway gives it that version's content under a number above all that it has seen; the others go on.
   When it is taken off, the newest content is published under a number above that.
3. A gateway's own pin counts before the one for all.

| may fill | bound | answer when full |
|---|---|---|
| pins | MAX_PINS | ModelRefused("pins") |
"""

from __future__ import annotations

import msgspec

from protocol.errors import ModelRefused

MAX_PINS = 10_000
ALL = "*"


class Pin(msgspec.Struct, frozen=True):
    """The version whose content is kept, the number under which it is given, and its sealed manifest."""

    version: int
    number: int
    sealed: bytes


class Pins:
    """See the rules above."""

    def __init__(self, snapshot: bytes = b"") -> None:
        kept = msgspec.msgpack.decode(snapshot, type=dict[str, dict[str, Pin]]) if snapshot else {}
        self._pins = kept  # by model, then by gateway or ALL

    def snapshot(self) -> bytes:
        """Give everything."""
        return msgspec.msgpack.encode(self._pins)

    def put(self, model: str, gateway: str, pin: Pin) -> None:
        """Pin; ModelRefused("pins") if there are too many."""
        if sum(map(len, self._pins.values())) >= MAX_PINS:
            raise ModelRefused("pins", f"{MAX_PINS} pins are set already")
        self._pins.setdefault(model, {})[gateway] = pin

    def take_off(self, model: str, gateway: str) -> Pin | None:
        """Take a pin off, and give it; None if there is none."""
        return self._pins.get(model, {}).pop(gateway, None)

    def of(self, model: str, gateway: str) -> Pin | None:
        """Give the pin that counts for a gateway."""
        own = self._pins.get(model, {})
        return own.get(gateway) or own.get(ALL)

    def holds(self, model: str) -> bool:
        """Whether the model is held for all."""
        return ALL in self._pins.get(model, {})

    def versions(self) -> dict[str, dict[str, int]]:
        """Give the version that is kept, by model and then by gateway or ALL."""
        return {model: {name: pin.version for name, pin in own.items()} for model, own in self._pins.items() if own}
