"""Ports of the loopback for what a test starts: below those that connections get, so that none takes one meanwhile."""

from __future__ import annotations

from random import SystemRandom

from cli.demo.plan import free_ports

_PORTS = free_ports(SystemRandom())


def free_port() -> int:
    """Give a port that was free a moment ago, no two the same in one process."""
    return next(_PORTS)
