"""Messages into readings: topics name the series, payloads hold the values; what is refused is kept with its cause.

Causes of a dead letter: `topic` (no source matches, or a name is empty or too long), `too_large`, `json` / `msgpack` /
`number` (unreadable), `depth` (nested too deeply), `type` (not a number where one belongs), `missing` (no value),
`time` (unreadable, or outside 1970 to 2200). A reading that was decoded is refused for one reason only: `series_limit`.
"""

from __future__ import annotations

from gateway.decode.decode import MAX_PAYLOAD, Decode
from gateway.decode.letters import DeadLetter
from gateway.decode.routes import MAX_NAME

__all__ = ["MAX_NAME", "MAX_PAYLOAD", "DeadLetter", "Decode"]
