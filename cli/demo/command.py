"""`fieldgate demo`: everything on this machine, for a look and for measuring."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import SystemRandom

import click

from cli.demo import plan
from cli.demo.show import Show


@click.command()
@click.option("--seconds", type=click.FloatRange(0, min_open=True), help="End after so long; without it, on Ctrl-C.")
@click.option("--gateways", type=click.IntRange(1, 20), default=2, show_default=True)
@click.option("--data", type=click.Path(file_okay=False, path_type=Path), help="Keep everything here, logs included.")
@click.option("--learning", is_flag=True, help="Gateways also learn together, from pumps whose shaking is made up.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end, and nothing else.")
def demo(seconds: float | None, gateways: int, data: Path | None, *, learning: bool, as_json: bool) -> None:
    """Show a whole Fieldgate: broker, devices replaying recorded sensor data, gateways, cloud and page.

    Kill any of its processes: what they had acknowledged is counted at the end, and so is what was lost.
    """
    with _directory(data) as directory:
        planned = plan.make(directory, gateways, SystemRandom(), learning=learning)
        show = Show(planned, _quiet if as_json else click.echo, seconds)
        try:
            result = asyncio.run(show.run())
        except asyncio.CancelledError:  # told twice to end
            raise click.Abort from None
    if as_json:
        click.echo(json.dumps(result))


@contextmanager
def _directory(data: Path | None) -> Iterator[Path]:
    if data is not None:
        data.mkdir(parents=True, exist_ok=True)
        yield data.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="fieldgate-demo-") as name:
        yield Path(name)


def _quiet(_line: str) -> None:
    """Say nothing."""
