"""What `fieldgate gateway replay` prints, and where: data on standard output, the rest on standard error."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from cli.replay import Printed, compare, replay
from cli.replay.text import difference_said, run_said, totals_said
from gateway.config import GatewayConfig


def show_replay(path: Path, config: GatewayConfig, *, windows: bool | None, as_json: bool) -> None:
    """Print windows as CSV and say alerts; or only windows, or only alerts, as CSV; or one JSON object."""
    if as_json:
        click.echo(json.dumps(replay(path, config, Printed())))
        return
    totals = replay(path, config, _printed(windows))
    sys.stdout.flush()
    for line in (*run_said(totals), *totals_said(totals)):
        click.echo(line, err=True)


def _printed(windows: bool | None) -> Printed:
    if windows is None:
        return Printed(windows=sys.stdout.write, people=sys.stderr.write)
    return Printed(windows=sys.stdout.write) if windows else Printed(alerts=sys.stdout.write)


def show_difference(path: Path, a: GatewayConfig, b: GatewayConfig, *, as_json: bool) -> None:
    """Print the alerts that only one side raises, then counts; or one JSON object."""
    if as_json:
        click.echo(json.dumps(compare(path, a, b, None)))
        return
    found = compare(path, a, b, sys.stdout.write)
    for line in difference_said(found):
        click.echo(line)
    for line in run_said(found):
        click.echo(line, err=True)
