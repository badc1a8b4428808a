"""Pumps that nobody has built: what their housings shake like in four states, made up, message by message. Pure.

A pump runs at 11 to 14 Hz, no two alike, and is measured 50 times a second along two axes. Its state is a reading too,
as a person or a controller would say it, and changes every STATE_S seconds:

| state | shakes |
|---|---|
| 0, idle | hardly: noise |
| 1, running | at its own frequency |
| 2, out of balance | half as much again, across too |
| 3, cavitating | about as much as when running, with bursts at no frequency |
"""

from __future__ import annotations

from math import sin, tau
from random import Random

from cli.speech import Message, Spoken

STATES = ("idle", "running", "out of balance", "cavitating")
RATE = 50
STATE_S = 4

LOUD = (0.0, 1.0, 1.5, 0.9)
ACROSS = (0.0, 0.4, 1.1, 0.5)
ROUGH = (0.25, 0.45, 0.5, 1.0)
"""By state: along, across, and the deviation of the noise."""


def state_of(number: int, turn: int) -> int:
    """Give the state that a pump is in when it is measured for that time."""
    return _chance(number, turn // (RATE * STATE_S)).randrange(len(STATES))


def speak(say: Spoken) -> Message:
    """Say one measurement of a pump: all of it in one payload, so that it has one time. `hall.pump-1` is in a hall."""
    chance = _chance(say.device, say.turn)
    state, hertz = state_of(say.number, say.turn), 11 + 3 * _chance(say.device).random()
    phase = tau * hertz * say.turn / RATE
    x = LOUD[state] * sin(phase) + chance.gauss(0, ROUGH[state])
    y = ACROSS[state] * sin(phase + 1) + chance.gauss(0, ROUGH[state])
    return (
        f"pumps/{say.device.replace('.', '/', 1)}",
        f'{{"time":{say.due},"x":{x:.4f},"y":{y:.4f},"state":{state}}}'.encode(),
    )


def _chance(*about: object) -> Random:
    return Random(repr(about))  # noqa: S311 - the same for the same, and nobody's secret
