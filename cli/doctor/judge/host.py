"""Judges the machine: its clock, and the versions of what runs and answers."""

from __future__ import annotations

from datetime import UTC, datetime

from cli.doctor.facts import Broker, Cloud, Facts, Host
from cli.doctor.judge.finding import Finding, fail, ok, skip, span, warn
from gateway.clock import PLAUSIBLE

OLDEST_PYTHON = (3, 11)

FAR_APART_S = 2.0
"""Beyond what asking over a slow link makes of it; a window in the cloud is as wrong as the clocks are apart."""

SYNCHRONISE = "let systemd-timesyncd or chrony set it (`timedatectl set-ntp true`)"


SET_CLOCK = f"this machine's clock is the likely cause: {SYNCHRONISE}; the gateway tries again until it can"
"""Where a certificate counts not yet, or no more."""


def judge_clock(host: Host) -> Finding:
    """Judge this machine's clock by itself."""
    said = datetime.fromtimestamp(host.wall / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    if host.wall < PLAUSIBLE:
        return fail("clock", f"it says {said}: it was never set", f"{SYNCHRONISE}; until then windows are not in UTC")
    if host.synchronised is None:
        return ok("clock", f"it says {said}; the kernel does not tell whether anything keeps it right")
    if not host.synchronised:
        return warn("clock", f"it says {said}, and nothing keeps it right", SYNCHRONISE)
    return ok("clock", f"synchronised; it says {said}")


def judge_apart(cloud: Cloud) -> Finding:
    """Judge this machine's clock by the cloud's."""
    if cloud.ahead is None:
        return skip("cloud clock", "the cloud did not say its time")
    apart = max(abs(cloud.ahead) - cloud.precision, 0.0)
    way = "ahead of" if cloud.ahead > 0 else "behind"
    if apart > FAR_APART_S:
        return warn("cloud clock", f"ours is {span(apart)} {way} the cloud's", f"{SYNCHRONISE}, here and in the cloud")
    return ok("cloud clock", f"ours and the cloud's are within {span(apart + cloud.precision)}")


def judge_versions(facts: Facts) -> Finding:
    """Judge which versions meet."""
    host, cloud = facts.host, facts.cloud
    told = [f"fieldgate {host.version}", f"Python {'.'.join(map(str, host.python))}"]
    theirs = cloud.version if isinstance(cloud, Cloud) else ""
    told += [f"cloud {theirs}"] if theirs else []
    if isinstance(facts.devices, Broker) and (spoken := getattr(facts.devices.spoken, "version", "")):
        told.append(f"broker {spoken}")
    found = ", ".join(told)
    if host.python[:2] < OLDEST_PYTHON:
        return warn("versions", found, "install Python 3.11 or newer: nothing older is tested")
    if theirs and _minor(theirs) != _minor(host.version):
        return warn("versions", found, "upgrade the older side: only equal minor versions are tested together")
    return ok("versions", found)


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]
