"""From what was measured to what is wrong and what to do. Pure: tables of facts in, findings out.

`ok` there is nothing to do, `warn` it works but less well or not for long, `fail` it does not work or loses readings,
`skip` it was not found out. Every warning and failure says what to do; every check gives one finding, always.
"""

from __future__ import annotations

from cli.doctor.facts import Facts
from cli.doctor.judge import broker, cloud, disk, host
from cli.doctor.judge.finding import Finding, Verdict, ok
from gateway.config import GatewayConfig

__all__ = ["Finding", "Verdict", "judge"]


def judge(facts: Facts, settings: GatewayConfig) -> list[Finding]:
    """Give one finding a check, in the order in which a person looks."""
    return [
        _configuration(settings),
        host.judge_versions(facts),
        host.judge_clock(facts.host),
        *disk.judge(facts.disk, settings),
        *broker.judge(facts.devices, facts.disk, settings),
        broker.judge_bus(facts.bus, settings),
        *cloud.judge(facts.cloud, settings),
        cloud.judge_models(settings),
    ]


def _configuration(settings: GatewayConfig) -> Finding:
    parts = [
        (len(settings.source), "source"),
        (len(settings.window), "window definition"),
        (len(settings.score), "detector"),
        (len(settings.rule), "rule"),
    ]
    said = [f"{number} {name}{'s' * (number > 1)}" for number, name in parts if number]
    return ok("configuration", f"{settings.name}: {', '.join(said)}; data in {settings.data}")
