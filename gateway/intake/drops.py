"""How many messages the broker has dropped, from a counter of its own that begins anew with it. Pure.

Rules:

1. The first value ever heard is where counting begins: what was dropped before a gateway first came is not its affair.
2. A value below the last one is that of a broker that has started again: all of it is new.
3. What is known is written down before it is told, so a growth is counted once, also if it happened while we were away.
4. The counter is of all the broker's clients: a growth says that something was lost, not that it was ours.
"""

from __future__ import annotations

from typing import NamedTuple


class Drops(NamedTuple):
    """What has been heard so far: the broker's last word, -1 for none, and the sum of all growths."""

    last: int = -1
    total: int = 0

    def feed(self, said: int) -> Drops:
        """Take the broker's counter; give what is known now."""
        if self.last < 0:
            return Drops(said, self.total)
        return Drops(said, self.total + (said - self.last if said >= self.last else said))
