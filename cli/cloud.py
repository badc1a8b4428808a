"""`fieldgate cloud`, but for its jobs. What a command needs is imported when it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.reach import DATA, DIRECTORY, FILE, load, reached, with_cloud
from cli.terminal import log_to_stderr, put_to_use
from cloud.config import CloudConfig
from protocol.errors import ComputeUnavailable
from protocol.settings import UNITS_NS, parse_quantity

if TYPE_CHECKING:
    from cloud.compute import Compute

WITH_CONFIG = click.argument("config_file", metavar="[CONFIG]", required=False, type=FILE)
WITH_DATA = click.option("--data", type=DIRECTORY, help=f"Keys, tokens and database; {DATA} here by default.")


class Shown(click.Group):
    """A group that shows unless it is told something else: what is no command's name is the first word of `show`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `show` before what is meant for it."""
        named = bool(args) and args[0] in (*self.commands, *ctx.help_option_names)
        return super().parse_args(ctx, args if named else ["show", *args])


class Cloud(click.Group):
    """A group whose command `jobs` is imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name all commands."""
        return sorted([*super().list_commands(ctx), "jobs"])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Give a command; None if there is none of that name."""
        if cmd_name != "jobs":
            return super().get_command(ctx, cmd_name)
        from cli.jobs import jobs  # noqa: PLC0415 - loaded when needed

        return jobs


@click.group(cls=Cloud)
def cloud() -> None:
    """Run and check the cloud, and enrol gateways."""


@cloud.command()
@WITH_CONFIG
@click.option("--listen", metavar="HOST:PORT", help="Beyond loopback, reading needs the admin token.")
@WITH_DATA
def run(config_file: Path | None, listen: str | None, data: Path | None) -> None:
    """Run the cloud until it is told to stop. The first start makes its keys and tokens."""
    settings = load(config_file, listen=listen, data=data)

    import asyncio  # noqa: PLC0415 - loaded when needed: `check` is quick

    from cloud import app  # noqa: PLC0415 - the same

    log_to_stderr()
    with put_to_use(config_file):
        asyncio.run(app.run(settings, on_ready=lambda ready: click.echo(ready.text)))


@cloud.command()
@click.argument("config_file", metavar="CONFIG", type=FILE)
def check(config_file: Path) -> int:
    """Say whether a configuration can be used, and what it means. Ends with 1 if a Dask cluster is not reached."""
    settings = load(config_file)
    cluster = _look_for(settings, config_file)
    readers = "this machine alone" if settings.loopback else "everywhere, with the admin token"
    click.echo(f"{config_file}: good")
    click.echo(f"  listens   {settings.listen}  (readers: {readers})")
    click.echo(f"  data      {settings.data}")
    click.echo(f"  store     {settings.store.url}")
    click.echo(f"  bus       {settings.bus.url if settings.bus else 'none: no models are made'}")
    if private := [one for one in settings.training if one.privacy is not None]:
        from cloud.federation.private import beforehand  # noqa: PLC0415 - numpy, for who wants privacy

        for one in private:
            for line in beforehand(one):
                click.echo(f"  privacy   {one.name}: {line}")
    if settings.job:
        click.echo(f"  jobs      {', '.join(job.name for job in settings.job)}")
    return _reach(cluster) if cluster is not None else 0


def _look_for(settings: CloudConfig, config_file: Path) -> Compute | None:
    """Refuse what is not here, work of jobs or larger models, and give the cluster that merges, if one is to."""
    with put_to_use(config_file):
        if settings.job:
            from cloud.standing import check  # noqa: PLC0415 - loaded when needed

            check(settings.job)
        if settings.cascade:
            from cloud.cascade import usable  # noqa: PLC0415 - the same

            usable(settings.cascade)
        if not settings.compute.scheduler:
            return None
        from cloud.compute import choose  # noqa: PLC0415 - the same

        return choose(settings.compute)


def _reach(cluster: Compute) -> int:
    """Say how many workers a cluster has; 1 if it is not reached."""
    import asyncio  # noqa: PLC0415 - loaded when needed

    try:
        click.echo(f"  merges    on {asyncio.run(cluster.look())}")
    except ComputeUnavailable as error:
        click.echo(f"  merges    nowhere: {error}; jobs will wait until it is there")
        return 1
    return 0


@cloud.group()
def gateways() -> None:
    """Look after the fleet."""


@gateways.command()
@click.argument("name")
@WITH_CONFIG
@WITH_DATA
def add(name: str, config_file: Path | None, data: Path | None) -> None:
    """Make a token for the gateway NAME, and print its configuration. An earlier token of NAME ends."""
    settings = load(config_file, data=data)

    from cloud.firstrun import describe_first_run  # noqa: PLC0415 - loaded when needed
    from cloud.tokens import Tokens  # noqa: PLC0415 - the same

    tokens = Tokens.open(Path(settings.data))
    if tokens.fresh:
        click.echo(
            f"{settings.data}: no cloud was here yet; one that runs elsewhere is named by CONFIG or --data", err=True
        )
    tokens.issue(name)
    url = settings.public_url or f"http://{settings.listen}"
    public = (tokens.signer().public.hex(), settings.bus.url if settings.bus else "")
    text = describe_first_run(url, name, str(tokens.token_file(name).absolute()), *public)
    click.echo(text.split("\n\n", 1)[1].rstrip())


@cloud.group(cls=Shown)
def models() -> None:
    """Show models, bring and promote them, keep a version, and go back to an earlier one."""


@models.command()
@with_cloud
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, as /v1/models gives it.")
def show(where: str, token_file: Path | None, as_json: bool) -> None:
    """Show the models of a running cloud: versions, which gateway runs which, alerts, refusals."""
    from cli.ask import ask  # noqa: PLC0415 - loaded when needed
    from cli.models import lines  # noqa: PLC0415 - the same

    body = ask(reached(where, token_file), "/v1/models")
    click.echo(json.dumps(body) if as_json else "\n".join(lines(body)))


models.add_command(show, "list")


@models.command()
@click.argument("file", metavar="FILE", type=FILE)
@click.argument("name")
@with_cloud
@click.option("--untried", is_flag=True, help="Put it in force at once, although its training's gateways could try it.")
def push(file: Path, name: str, where: str, token_file: Path | None, *, untried: bool) -> None:
    """Bring the classifier, baseline or ONNX in FILE as model NAME. That of a training has to prove itself first."""
    from cli.ask import ask  # noqa: PLC0415 - loaded when needed

    query = {"model": name, "untried": int(untried)}
    body = ask(reached(where, token_file), "/v1/models", query, "POST", file.read_bytes())
    tried = "its gateways try it: see `fieldgate cloud trainings`"
    click.echo(f"{name}: " + (f"version {body['version']}" if body["version"] else tried))


@models.command()
@click.argument("name")
@with_cloud
def promote(name: str, where: str, token_file: Path | None) -> None:
    """Put in force what the last run of the training NAME made, whatever the gate said of it."""
    from cli.ask import ask  # noqa: PLC0415 - loaded when needed

    ask(reached(where, token_file), "/v1/promote", {"name": name}, "POST")
    click.echo(f"{name}: promoted")


@models.command()
@click.argument("name")
@with_cloud
@click.option("--to", "version", type=click.IntRange(1), help="This version; else the newest.")
@click.option("--gateway", metavar="NAME", help="This gateway only; else nothing newer is published to anybody.")
def pin(name: str, where: str, token_file: Path | None, version: int | None, gateway: str | None) -> None:
    """Keep a gateway, or all, at a version of the model NAME until `unpin`."""
    _pins(where, token_file, "/v1/pin", {"model": name, "version": version, "gateway": gateway})


@models.command()
@click.argument("name")
@with_cloud
@click.option("--gateway", metavar="NAME", help="Of this gateway.")
def unpin(name: str, where: str, token_file: Path | None, gateway: str | None) -> None:
    """Take a pin of the model NAME off again."""
    _pins(where, token_file, "/v1/unpin", {"model": name, "gateway": gateway})


def _pins(where: str, token_file: Path | None, path: str, query: dict[str, object]) -> None:
    from cli.ask import ask  # noqa: PLC0415 - loaded when needed

    body = ask(reached(where, token_file), path, query, "POST")
    for model, pins in body["pins"].items():
        for gateway, version in pins.items():
            click.echo(f"{model}: {'all' if gateway == '*' else gateway} stay at version {version}")
    if not any(body["pins"].values()):
        click.echo("no model is pinned")


@models.command()
@click.argument("name")
@with_cloud
@click.option("--to", "version", type=click.IntRange(1), help="Go back to this version; else to the one before.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, as /v1/rollback gives it.")
def rollback(name: str, where: str, token_file: Path | None, version: int | None, as_json: bool) -> None:
    """Publish an earlier version of the model NAME again, as its next version. Needs the admin token."""
    from cli.ask import ask  # noqa: PLC0415 - loaded when needed

    body = ask(reached(where, token_file), "/v1/rollback", {"model": name, "version": version}, "POST")
    said = f"{body['model']}: version {body['version']} is version {body['of']} again"
    click.echo(json.dumps(body) if as_json else said)


@cloud.group(cls=Shown)
def trainings() -> None:
    """Show what gateways learn together, and begin a run of it."""


@trainings.command("show")
@with_cloud
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, as /v1/trainings gives it.")
def show_trainings(where: str, token_file: Path | None, as_json: bool) -> None:
    """Show the trainings of a running cloud: rounds, who answered, was late or refused, and how they ended."""
    from cli.ask import ask  # noqa: PLC0415 - loaded when needed
    from cli.trainings import lines  # noqa: PLC0415 - the same

    body = ask(reached(where, token_file), "/v1/trainings")
    click.echo(json.dumps(body) if as_json else "\n".join(lines(body)))


@trainings.command()
@click.argument("name")
@with_cloud
def start(name: str, where: str, token_file: Path | None) -> None:
    """Begin a run of the training NAME now. Needs the admin token."""
    from cli.ask import ask  # noqa: PLC0415 - loaded when needed

    ask(reached(where, token_file), "/v1/train", {"name": name}, "POST")
    click.echo(f"{name}: a run begins")


@cloud.command()
@with_cloud
@click.option("--gateway", metavar="NAME", help="Of this gateway only.")
@click.option("--since", metavar="TIME", help="Let losses count that were declared in this time, such as 1h or 1d.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object: /v1/ledger's, and what is `missing`.")
def ledger(where: str, token_file: Path | None, gateway: str | None, since: str | None, as_json: bool) -> int:
    """Show what each gateway of a running cloud handed over. Ends with 1 if something is missing."""
    from cli import ledger as page  # noqa: PLC0415 - loaded when needed
    from cli.ask import ask  # noqa: PLC0415 - the same

    within = duration(since) if since is not None else None
    body = ask(reached(where, token_file), "/v1/ledger", {"gateway": gateway})
    if gateway and not body["gateways"]:
        raise click.ClickException(f"no gateway {gateway} has called")
    missing = page.missing(body, within)
    if as_json:
        click.echo(json.dumps(body | {"missing": missing}))
    else:
        click.echo("\n".join([*page.lines(body), "", *(missing or ["nothing is missing"])]))
    return int(bool(missing))


def duration(text: str) -> int:
    """Read a duration into ns; BadParameter says what was expected."""
    try:
        return parse_quantity(text, UNITS_NS, "a duration with its unit, such as 90m, 1h or 1d")
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not {error}", param_hint="--since") from None
