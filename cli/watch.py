"""Watches a running gateway for a person: says what is wrong when nothing is recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cli.hint import hint
from cli.listen import topics_heard
from gateway.pipeline import Pipeline
from gateway.service import secret
from protocol.errors import BrokerUnavailable

SILENCE_S = 10
"""How long nothing must have been recorded before it is said."""


async def watch(pipeline: Pipeline, say: Callable[[str], None], silence_s: float = SILENCE_S) -> None:
    """Say a hint whenever nothing has been recorded for so long, once per silence with a broker and without."""
    told: set[bool] = set()
    recorded, refused = _recorded(pipeline), _refused(pipeline)
    while True:
        await asyncio.sleep(silence_s)
        connected = _connected(pipeline)
        if _recorded(pipeline) != recorded:
            told.clear()
        elif connected not in told:
            news = {cause: number - refused.get(cause, 0) for cause, number in _refused(pipeline).items()}
            say(hint(await _heard(pipeline), news, silence_s) if connected else _away(pipeline, silence_s))
            told.add(connected)
        recorded, refused = _recorded(pipeline), _refused(pipeline)


def _connected(pipeline: Pipeline) -> bool:
    return pipeline.inward.intake is not None and pipeline.inward.intake.connected


def _away(pipeline: Pipeline, seconds: float) -> str:
    url = pipeline.config.devices.url
    return (
        f"Nothing has been recorded for {seconds:g} s: there is no connection to {url}.\n"
        "Does a broker run there, and does it speak MQTT 5? devices.url says where it is."
    )


def _recorded(pipeline: Pipeline) -> int:
    return pipeline.at.derive.totals.recorded


def _refused(pipeline: Pipeline) -> dict[str, int]:
    tally = pipeline.at.derive.totals.tally
    return {**tally.dead, **tally.refused}


async def _heard(pipeline: Pipeline) -> list[str]:
    """Topics of messages that no source took; if there were none at all, whatever else the broker carries."""
    if pipeline.inward.decode.heard or pipeline.at.derive.totals.tally.messages:
        return list(pipeline.inward.decode.heard)
    broker = pipeline.config.devices
    password = secret("devices", "password", file=broker.password_file, env=broker.password_env)
    try:
        return await topics_heard(
            broker, f"fieldgate-{pipeline.config.name}-ear", password.encode() if password else None
        )
    except BrokerUnavailable:
        return []
