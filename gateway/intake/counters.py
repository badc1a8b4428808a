"""What intake has done: plain integers, read when somebody asks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """What intake has done since it was made."""

    connections: int = 0
    reads: int = 0
    messages: int = 0
    malformed: int = 0  # messages that are not MQTT: let through unread, acknowledged
    too_large: int = 0  # messages beyond the limit: the same
    acknowledged: int = 0
    stale: int = 0  # acknowledgements whose connection was gone: the broker sends those messages again
    published: int = 0
    unpublished: int = 0  # dropped: not connected, or the broker does not read
    subscriptions_refused: int = 0
    sessions_lost: int = 0  # the broker no longer knew us when we came back

    @property
    def unread(self) -> dict[str, int]:
        """Messages acknowledged without having been handed over, by cause."""
        return {"malformed": self.malformed, "too_large": self.too_large}
