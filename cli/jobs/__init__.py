"""`fieldgate cloud jobs`: plan, run, list, show and cancel what is computed over the fleet."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from cli.jobs import show as page
from cli.reach import reached, with_cloud

Command = Callable[..., Any]
LOOK_S = 0.3
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@click.group()
def jobs() -> None:
    """Compute over the raw history of the fleet, where it is, and merge what comes back."""


def _asking(command: Command) -> Command:
    """Let a command say what a job is."""
    options = (
        click.argument("work"),
        with_cloud,
        click.option("--series", "-s", multiple=True, metavar="PATTERN", help="Series that are meant; else all."),
        click.option("--gateway", "-g", "gateways", multiple=True, metavar="PATTERN|@LABEL", help="Else all."),
        click.option("--last", metavar="TIME", help="Event times of this time before now, such as 24h."),
        click.option("--from", "from_", type=int, metavar="NS", help="Event times from this on."),
        click.option("--to", type=int, metavar="NS", help="Event times before this."),
        click.option("--param", "-p", "params", multiple=True, metavar="KEY=VALUE", help="Of the work's own."),
        click.option("--priority", type=click.IntRange(1, 100), help="Its share beside other jobs; else 1."),
        click.option("--deadline", metavar="TIME", help="It ends then with what there is; else 10m."),
        click.option("--whole", is_flag=True, help="Fail if a gateway is missing, instead of merging the others."),
        click.option("--windows", is_flag=True, help="Where readings cannot be had, take windows stored in the cloud."),
        click.option("--limit", type=click.IntRange(1), help="Readings at most, for `sample`."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _spec(said: dict[str, Any]) -> bytes:
    work, params, whole = said.pop("work"), said.pop("params"), said.pop("whole")
    said["windows"] = "when away" if said.pop("windows") else None
    said["from"] = said.pop("from_")
    try:
        asked = page.spec(work, said, params)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--param") from None
    return json.dumps(asked | ({"partial": False} if whole else {})).encode()


@jobs.command()
@_asking
@AS_JSON
def plan(where: str, token_file: Path | None, as_json: bool, **said: Any) -> None:
    """Say where each part of WORK would be computed, why, what it would cost and when it would end; run nothing."""
    from cli.ask import ask  # noqa: PLC0415 - loaded when needed

    found = ask(reached(where, token_file), "/v1/plan", None, "POST", _spec(said))
    click.echo(json.dumps(found) if as_json else "\n".join(page.steps(found)))


@jobs.command()
@_asking
@AS_JSON
@click.option("--detach", is_flag=True, help="Begin it, and do not wait for its end.")
def run(where: str, token_file: Path | None, as_json: bool, detach: bool, **said: Any) -> int:
    """Compute WORK (moments, quantiles, histogram, ...) over the fleet. Ends with 1 if it fails or is not whole."""
    from cli.ask import ask  # noqa: PLC0415 - loaded when needed

    cloud = reached(where, token_file)
    job = ask(cloud, "/v1/jobs", None, "POST", _spec(said))
    shown = sys.stderr.isatty() and not as_json
    while not detach and job["state"] in ("running", "merging"):
        if shown:
            click.echo(f"\r{page.bar(job)}\x1b[K", nl=False, err=True)
        time.sleep(LOOK_S)
        job = ask(cloud, f"/v1/jobs/{job['id']}")
    if shown:
        click.echo("\r\x1b[K", nl=False, err=True)
    click.echo(json.dumps(job) if as_json else job["id"] if detach else "\n".join(page.whole(job)))
    return int(not detach and (job["state"] != "done" or job["complete"] < 1))


@jobs.command("list")
@with_cloud
@AS_JSON
def list_jobs(where: str, token_file: Path | None, as_json: bool) -> None:
    """List jobs, newest first."""
    from cli.ask import ask  # noqa: PLC0415 - loaded when needed

    body = ask(reached(where, token_file), "/v1/jobs")
    click.echo(json.dumps(body) if as_json else "\n".join(page.lines(body)))


@jobs.command()
@click.argument("job")
@with_cloud
@AS_JSON
def show(job: str, where: str, token_file: Path | None, as_json: bool) -> None:
    """Show the job JOB: how complete it is, who is missing and why, and its result."""
    from cli.ask import ask  # noqa: PLC0415 - loaded when needed

    found = ask(reached(where, token_file), f"/v1/jobs/{job}")
    click.echo(json.dumps(found) if as_json else "\n".join(page.whole(found)))


@jobs.command()
@click.argument("job")
@with_cloud
def cancel(job: str, where: str, token_file: Path | None) -> None:
    """End the job JOB; nothing of it is merged. Needs the admin token."""
    from cli.ask import ask  # noqa: PLC0415 - loaded when needed

    found = ask(reached(where, token_file), f"/v1/jobs/{job}", None, "DELETE")
    click.echo(f"{job}: {found['state']}")
