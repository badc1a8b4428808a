"""`fieldgate cloud`: run, check, gateways add, models. What a command needs is imported when it runs."""

from __future__ import annotations

import json
from pathlib import Path

import click
import msgspec

from cli.terminal import log_to_stderr, read_text
from cloud import config

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
DIRECTORY = click.Path(file_okay=False, path_type=Path)
DATA = Path("fieldgate-cloud")
"""Where a cloud without a configuration keeps its keys, tokens and database: here."""

WITH_CONFIG = click.argument("config_file", metavar="[CONFIG]", required=False, type=FILE)
WITH_DATA = click.option("--data", type=DIRECTORY, help=f"Keys, tokens and database; {DATA} here by default.")


@click.group()
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
    asyncio.run(app.run(settings, on_ready=lambda ready: click.echo(ready.text)))


@cloud.command()
@click.argument("config_file", metavar="CONFIG", type=FILE)
def check(config_file: Path) -> None:
    """Say whether a configuration can be used, and what it means."""
    settings = load(config_file)
    readers = "this machine alone" if settings.loopback else "everywhere, with the admin token"
    click.echo(f"{config_file}: good")
    click.echo(f"  listens   {settings.listen}  (readers: {readers})")
    click.echo(f"  data      {settings.data}")
    click.echo(f"  store     {settings.store.url}")
    click.echo(f"  bus       {settings.bus.url if settings.bus else 'none: no models are made'}")


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
    tokens.issue(name)
    url = settings.public_url or f"http://{settings.listen}"
    public = (tokens.signer().public.hex(), settings.bus.url if settings.bus else "")
    text = describe_first_run(url, name, str(tokens.token_file(name).absolute()), *public)
    click.echo(text.split("\n\n", 1)[1].rstrip())


@cloud.command()
@click.argument("where", metavar="[CONFIG|URL]", default="")
@click.option("--token-file", type=FILE, help="The admin token, for a URL beyond this machine.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, as /v1/models gives it.")
def models(where: str, token_file: Path | None, as_json: bool) -> None:
    """Show the models of a running cloud: versions, which gateway runs which, alerts, refusals."""
    from cli import models as page  # noqa: PLC0415 - loaded when needed

    url = where
    if not where.startswith(("http://", "https://")):
        settings = load(Path(where) if where else None)
        url = page.url_of(settings)
        own = Path(settings.data) / "admin.token"
        token_file = token_file or (own if own.is_file() else None)
    body = page.fetch(url, read_text(token_file).strip() if token_file else "")
    click.echo(json.dumps(body) if as_json else "\n".join(page.lines(body)))


def load(path: Path | None, *, listen: str | None = None, data: Path | None = None) -> config.CloudConfig:
    """Read a cloud's configuration, or take the defaults; options win. ConfigurationRefused explains."""
    changes = {name: str(value) for name, value in (("listen", listen), ("data", data)) if value is not None}
    if path is None:
        return config.parse(_toml({"data": str(DATA)} | changes), "(options)")
    settings = config.parse(read_text(path), str(path))
    config.parse(_toml({"data": settings.data} | changes), "(options)")
    return msgspec.structs.replace(settings, **changes)


def _toml(values: dict[str, str]) -> str:
    return "".join(f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in values.items())
