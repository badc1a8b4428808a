"""Messages into readings: topics name the series, payloads hold the values; what is refused is kept with its cause.

Causes of a dead letter: `topic` (no source matches, or a name is empty or too long), `too_large`, `json` / `msgpack` /
`number` (unreadable), `depth` (nested too deeply), `leaves` (a dialect's payload holds too many numbers), `type` (not a
number where one belongs), `missing` (no value), `time` (unreadable, or outside 1970 to 2200). A decoded reading is
refused for two reasons only: `series_limit`, and `name` (a dialect's payload gives it a name that cannot be one).
"""

from __future__ import annotations

from gateway.decode.decode import MAX_PAYLOAD, Decode
from gateway.decode.letters import DeadLetter
from gateway.decode.routes import MAX_NAME

__all__ = ["MAX_NAME", "MAX_PAYLOAD", "DeadLetter", "Decode"]
