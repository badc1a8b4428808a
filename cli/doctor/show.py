"""The command's body: examine, judge, print, and say by the exit code whether something fails."""

from __future__ import annotations

import asyncio
import json
import sys

import click

from cli.doctor.examine import examine
from cli.doctor.judge import judge
from cli.doctor.report import COLOURS, as_object, lines, summary
from gateway.config import GatewayConfig
from gateway.segment import Files, OsFiles


def show(settings: GatewayConfig, *, as_json: bool, files: Files | None = None) -> int:
    """Print what was found; give the exit code: 1 if a check failed, else 0."""
    if sys.stderr.isatty() and not as_json:
        click.echo("Looking at disk, broker and cloud; a minute if one of them does not answer ...", err=True)
    findings = judge(asyncio.run(examine(settings, files or OsFiles())), settings)
    if as_json:
        click.echo(json.dumps(as_object(settings.name, findings)))
    else:
        for verdict, line in lines(findings):  # click leaves colours out where no terminal is
            word = f"{verdict or '':<4}"
            click.echo(f"{click.style(word, fg=COLOURS[verdict]) if verdict else word}  {line}".rstrip())
        click.echo(f"\n{summary(findings)}")
    return int(any(finding.verdict == "fail" for finding in findings))
