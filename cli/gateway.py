"""`fieldgate gateway`: run, check, doctor, init, replay, journal import. Each imports what it needs."""

from __future__ import annotations

import json
import os
import signal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from cli.terminal import log_to_stderr, put_to_use, read_text
from gateway import config

if TYPE_CHECKING:
    import asyncio

    from gateway.pipeline import Pipeline

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object, and nothing else.")
CONFIG = click.option("--config", "config_file", required=True, type=FILE, help="The gateway's TOML file.")


@click.group()
def gateway() -> None:
    """Run, check and replay an edge gateway."""


@gateway.command()
@click.argument("config_file", metavar="CONFIG", type=FILE)
def run(config_file: Path) -> None:
    """Run a gateway until it is told to stop; on SIGHUP it reads CONFIG again, and applies what changed."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})  # kept for `run`: it must not kill who is starting
    settings = load(config_file)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # a thread costs numpy 2 to 4 MB; ours are small

    import asyncio  # noqa: PLC0415 - loaded when needed: `check` does without

    from cli.watch import watch  # noqa: PLC0415 - loaded when needed
    from gateway import pipeline, renew  # noqa: PLC0415 - the same
    from gateway.service import settle_memory  # noqa: PLC0415 - the same

    log_to_stderr()
    settle_memory()
    watching: list[asyncio.Task[None]] = []

    def ready(running: Pipeline) -> None:
        watching.append(asyncio.create_task(watch(running, partial(click.echo, err=True)), name="watch"))

    file = renew.File(str(config_file), partial(load, config_file))
    with put_to_use(config_file):
        asyncio.run(pipeline.run(settings, on_ready=ready, file=file))


@gateway.command()
@click.argument("config_file", metavar="CONFIG", type=FILE)
def check(config_file: Path) -> None:
    """Say whether a configuration can be used, and what it means."""
    settings = load(config_file)
    click.echo(f"{config_file}: good")
    for line in describe(settings):
        click.echo(f"  {line}")


@gateway.command()
@click.argument("config_file", metavar="CONFIG", type=FILE)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, and nothing else.")
def doctor(config_file: Path, *, as_json: bool) -> int:
    """Look at what a gateway needs: broker, disk, clock, cloud; say what is wrong, and what to do.

    The gateway may be running: it is not disturbed. Run it as the gateway's user, who may read its files. It ends with
    1 if a check fails, else with 0.
    """
    settings = load(config_file)

    from cli.doctor.show import show  # noqa: PLC0415 - loaded when needed

    return show(settings, as_json=as_json)


@gateway.command()
@click.option("--broker", default="mqtt://127.0.0.1:1883", show_default=True, metavar="URL")
@click.option("--seconds", type=click.FloatRange(0, min_open=True), default=30, show_default=True, help="How long.")
@click.option("--name", default="", help="The gateway's name.  [default: this machine's]")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), default="gateway.toml", show_default=True)
@click.option("--username", default="")
@click.option("--password-file", type=FILE)
@click.option("--ca-file", type=FILE, help="Whom to believe behind mqtts://.")
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
def init(broker: str, output: Path, **options: Any) -> None:
    """Listen to a broker and propose a configuration for what it carries."""
    if options["name"] and not config.NAME.fullmatch(options["name"]):
        raise click.BadParameter("1 to 63 of letters, digits, '.', '_', '-'", param_hint="--name")

    from cli.init import init as run_init  # noqa: PLC0415 - loaded when needed

    run_init(broker, output, **options)


@gateway.command()
@click.argument("journal", type=click.Path(exists=True, file_okay=False, path_type=Path))
@CONFIG
@click.option("--diff", "other_file", type=FILE, metavar="A", help="Print where CONFIG differs from this one.")
@click.option("--windows/--alerts", "windows", default=None, help="Print only these, as CSV.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object with the totals, and nothing else.")
def replay(journal: Path, config_file: Path, other_file: Path | None, *, windows: bool | None, as_json: bool) -> None:
    """Say what CONFIG makes of a journal: windows as CSV; alerts and totals on standard error.

    JOURNAL is a gateway's data directory or the journal in it; a running gateway may be writing it. Nothing is changed.
    With --diff both configurations go over the journal side by side, and what differs is printed: alerts that only A
    raises (-), alerts that only CONFIG raises (+), and counts.
    """
    if windows is not None and (other_file or as_json):
        raise click.UsageError("--windows and --alerts choose what is printed as CSV: not with --diff or --json")
    settings, other = load(config_file), load(other_file) if other_file else None
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as live: sums are made in the same order

    from cli.replay import show  # noqa: PLC0415 - loaded when needed

    if other:
        show.show_difference(journal, other, settings, as_json=as_json)
    else:
        show.show_replay(journal, settings, windows=windows, as_json=as_json)


@gateway.group("journal")
def journal_group() -> None:
    """Look after a gateway's journal."""


@journal_group.command("import")
@click.argument("file", type=FILE)
@CONFIG
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, and nothing else.")
def import_file(file: Path, config_file: Path, *, as_json: bool) -> None:
    """Record the readings of a .csv or .npz FILE, as if they had come in now; the gateway must not be running.

    CSV begins with a header: time,series,value or time,NAME,NAME...; a name without a device gets the file's name as
    its device.
    """
    settings = load(config_file)

    from cli.backfill import backfill  # noqa: PLC0415 - loaded when needed

    done = backfill(file, settings)
    click.echo(json.dumps(done) if as_json else "\n".join(f"{name}: {value}" for name, value in done.items()))


@gateway.group("spool")
def spool_group() -> None:
    """Look after a gateway's spool."""


LOOKED_AFTER = {
    "stat": "Say what is on the disk; the gateway may be running.",
    "verify": "Read everything and say what is damaged: then the exit code is 1. The gateway may be running.",
    "repair": "Set aside what is damaged, as the next start would; the gateway must not be running.",
}


def _storage(store: Literal["journal", "spool"], group: click.Group) -> None:
    """Give a group its three commands."""
    for verb, about in LOOKED_AFTER.items():
        command = AS_JSON(partial(_look_after, store, verb))
        group.command(verb, help=about)(click.argument("config_file", metavar="CONFIG", type=FILE)(command))


def _look_after(store: Literal["journal", "spool"], verb: str, config_file: Path, *, as_json: bool) -> int:
    settings = load(config_file)

    from cli import storage  # noqa: PLC0415 - loaded when needed

    carry_out = {"stat": storage.stat, "verify": storage.verify, "repair": storage.repair}[verb]
    return carry_out(store, settings, as_json=as_json)


_storage("journal", journal_group)
_storage("spool", spool_group)


def load(path: Path) -> config.GatewayConfig:
    """Read a gateway's configuration; ConfigurationRefused explains."""
    return config.parse(read_text(path), str(path))


def describe(settings: config.GatewayConfig) -> list[str]:
    """Say in a few lines what a configuration means."""
    sources = [f"source    {source.filter}  ({source.format}, QoS {source.qos})" for source in settings.source]
    windows = [f"window    {_seconds(window.size)} of {window.series}{_hop(window)}" for window in settings.window]
    if not settings.uplink.url:
        cloud = "none: works alone"
    else:
        secret = settings.uplink.token_file or f"variable {settings.uplink.token_env}"
        cloud = f"{settings.uplink.url}  (token in {secret})"
    return [
        f"gateway   {settings.name}",
        f"broker    {settings.devices.url}",
        *sources,
        *windows,
        f"data      {settings.data}",
        f"cloud     {cloud}",
    ]


def _hop(window: config.Window) -> str:
    return "" if window.step == window.size else f", every {_seconds(window.step)}"


def _seconds(ns: int) -> str:
    return f"{ns / 1e9:g} s"
