"""Which cloud a command means: one that it runs, by configuration and options, or one that runs, by its address."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from cli.terminal import read_text
from cloud import config

if TYPE_CHECKING:
    from cli.ask import Asked

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
DIRECTORY = click.Path(file_okay=False, path_type=Path)
DATA = Path("fieldgate-cloud")
"""Where a cloud without a configuration keeps its keys, tokens and database: here."""


def with_cloud(command: Callable[..., Any]) -> Callable[..., Any]:
    """Let a command ask a running cloud."""
    where = click.argument("where", metavar="[CONFIG|URL]", default="")
    return where(
        click.option("--token-file", type=FILE, help="The admin token, for a URL beyond this machine.")(command)
    )


def reached(where: str, token_file: Path | None) -> Asked:
    """Say where a cloud is, by URL or configuration; the latter brings the admin token along."""
    from cli.ask import Asked, url_of  # noqa: PLC0415 - loaded when needed

    url = where
    if not where.startswith(("http://", "https://")):
        settings = load(Path(where) if where else None)
        url = url_of(settings)
        own = Path(settings.data) / "admin.token"
        token_file = token_file or (own if own.is_file() else None)
    return Asked(url, read_text(token_file).strip() if token_file else "")


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
