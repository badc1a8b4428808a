"""The commands' bodies: look, print, and say by the exit code whether something is damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import click

from cli.storage.damage import journal_damage, spool_damage
from cli.storage.stores import aside, checkpoints_of, journal_of, journal_stat, spool_of, spool_stat
from cli.terminal import when
from gateway.config import GatewayConfig
from gateway.segment import Files, OsFiles, ReadOnlyFiles
from protocol.messages import LANES

Store = Literal["journal", "spool"]


def stat(store: Store, config: GatewayConfig, *, as_json: bool) -> int:
    """Print the numbers."""
    found = journal_stat(config) if store == "journal" else spool_stat(config)
    _print(found, _journal_lines(found) if store == "journal" else _spool_lines(found), as_json=as_json)
    return 0


def verify(store: Store, config: GatewayConfig, *, as_json: bool) -> int:
    """Read everything and print what is damaged; 1 if something is."""
    found = _damage(store, config, ReadOnlyFiles())
    _print(found, [*_damage_lines(found), _summary(found)], as_json=as_json)
    return int(bool(found["damage"]))


def repair(store: Store, config: GatewayConfig, *, as_json: bool) -> int:
    """Do what a start would do, and print what became of the damage; JournalUnusable while a gateway runs."""
    files = OsFiles()
    found = _opened(store, config, files)
    left = _damage(store, config, ReadOnlyFiles())
    done = {**found, "left": left["damage"]}
    _print(done, _repair_lines(done), as_json=as_json)
    return 0


def _damage(store: Store, config: GatewayConfig, files: Files) -> dict[str, Any]:
    return journal_damage(config, files) if store == "journal" else spool_damage(config, files)


def _opened(store: Store, config: GatewayConfig, files: Files) -> dict[str, Any]:
    before = _damage(store, config, ReadOnlyFiles())["damage"]
    kept = set(_aside(store, config, ReadOnlyFiles()))
    if store == "journal":
        with journal_of(config, files) as journal:
            torn = journal.log.torn
            checkpoints_of(config, files).load()
    else:
        with spool_of(config, files) as spool:
            torn = sum(spool.log(lane).torn for lane in LANES)
    fresh = [name for name in _aside(store, config, files) if name not in kept]
    return {"damage": before, "torn_bytes": torn, "set_aside": fresh}


def _aside(store: Store, config: GatewayConfig, files: Files) -> list[str]:
    if store == "journal":
        directories = [Path(config.data) / "journal", Path(config.data) / "checkpoints"]
    else:
        with spool_of(config, ReadOnlyFiles()) as spool:
            directories = [spool.home / lane for lane in LANES]
    return [str(directory / name) for directory in directories for name in aside(files, directory)]


def _print(found: dict[str, Any], lines: list[str], *, as_json: bool) -> None:
    click.echo(json.dumps(found) if as_json else "\n".join(lines))


def _journal_lines(found: dict[str, Any]) -> list[str]:
    checkpoints = [f"{one['position']} ({_size(one['bytes'])})" for one in found["checkpoints"]]
    return [
        f"journal      {found['directory']}",
        f"files        {found['files']}, {_size(found['bytes'])}",
        f"records      {_range(found)}",
        f"oldest       {when(found['oldest_stamp'])}",
        f"newest       {when(found['newest_stamp'])}",
        f"checkpoints  {', '.join(checkpoints) or 'none'}",
        f"to replay    {found['to_replay']} records",
        *_aside_lines(found),
    ]


def _spool_lines(found: dict[str, Any]) -> list[str]:
    head = f"{'lane':<13}{'files':>6}{'bytes':>12}{'frames':>9}{'receipted':>11}{'queued':>9}  oldest"
    lanes = [
        f"{lane:<13}{one['files']:>6}{_size(one['bytes']):>12}{one['records']:>9}{one['receipted']:>11}"
        f"{one['queued']:>9}  {when(one['oldest_stamp'])}"
        for lane, one in found["lanes"].items()
    ]
    return [
        f"spool        {found['directory']}",
        f"epoch        {found['epoch']}",
        f"queued       {found['queued']} frames; {_size(found['bytes'])} on the disk",
        "",
        head,
        *lanes,
        *_aside_lines(found),
    ]


def _aside_lines(found: dict[str, Any]) -> list[str]:
    return [f"set aside    {name}" for name in found["set_aside"]]


def _damage_lines(found: dict[str, Any]) -> list[str]:
    return [line for one in found["damage"] for line in _explained(one)]


def _explained(one: dict[str, Any]) -> list[str]:
    begin, end = one["bytes"]
    where = f"{one['file']}, bytes {begin} to {end}" if end else one["file"]
    records = one["records"]
    what = f", records {records[0]} to {records[1]}" if records else ""
    return [f"{where}{what}", f"  {one['meaning']}", f"  to do: {one['remedy']}", ""]


def _summary(found: dict[str, Any]) -> str:
    read = f"{found['files']} files, {_size(found['bytes'])}, {found['records']} records read"
    return f"{read}: {len(found['damage'])} damaged places" if found["damage"] else f"{read}: all good"


def _repair_lines(done: dict[str, Any]) -> list[str]:
    if not done["damage"]:
        return ["nothing is damaged"]
    lines = [f"{done['torn_bytes']} bytes cut off"] if done["torn_bytes"] else []
    lines += [f"set aside    {name}" for name in done["set_aside"]]
    if done["left"]:
        lines += ["", "what stays as it is, and is stepped over:", ""]
        lines += [line for one in done["left"] for line in _explained(one)]
    return lines


def _range(found: dict[str, Any]) -> str:
    return f"{found['records']}, {found['oldest']} to {found['newest']}" if found["records"] else "none"


def _size(size: int) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024  # type: ignore[assignment]
    return f"{size:.1f} GiB"
