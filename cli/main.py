"""The command `fieldgate`. A subcommand's module is imported when it is called: `--version` loads click and no more.

Exit codes: 0 done, 2 usage, 78 a configuration was refused, 1 anything else. What is expected to go wrong is said in a
line on standard error; a traceback is a bug of ours.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

import click

from protocol import __version__
from protocol.errors import ConfigurationRefused, FieldgateError

EX_CONFIG = 78
"""As sysexits.h has it."""

COMMANDS = {
    "demo": ("cli.demo.command", "Broker, devices, gateways, cloud and page on this machine."),
    "gateway": ("cli.gateway", "Run, check and replay an edge gateway."),
    "cloud": ("cli.cloud", "Run and check the cloud, and enrol gateways."),
    "simulate": ("cli.simulate", "Publish as many devices, with real sensor data."),
}


class Lazy(click.Group):
    """A group that knows its commands by name and one line each, and imports one when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name all commands."""
        return [*COMMANDS, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None if there is none of that name."""
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        command = getattr(importlib.import_module(COMMANDS[cmd_name][0]), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="fieldgate", message="%(prog)s %(version)s")
def fieldgate() -> None:
    """Collect sensor readings at the edge, window them there, and keep the results in a cloud."""


def run(arguments: Sequence[str]) -> int:
    """Carry out one command line; return the exit code."""
    try:
        code = fieldgate.main(list(arguments), prog_name="fieldgate", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # our reader has gone: be quiet at exit
        return 1
    except (FieldgateError, OSError, ExceptionGroup) as error:
        return _explain(error)
    return code if isinstance(code, int) else 0


def _explain(error: Exception) -> int:
    """Say what went wrong and return the exit code; what nobody expects is raised again."""
    if isinstance(error, ExceptionGroup):
        return _explain(_expected(error))
    if isinstance(error, ConfigurationRefused):
        click.echo(refusal(error), err=True)
        return EX_CONFIG
    if isinstance(error, OSError):
        click.echo(f"fieldgate: {_where(error)}{error.strerror or error}", err=True)
    else:
        click.echo(f"fieldgate: {error}", err=True)
    return 1


def _expected(group: ExceptionGroup[Exception]) -> Exception:
    expected, others = group.split((FieldgateError, OSError))
    if others is not None or expected is None:
        raise group
    error: Exception = expected
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def _where(error: OSError) -> str:
    return f"{error.filename}: " if error.filename else ""


def refusal(error: ConfigurationRefused) -> str:
    """Lay a refused configuration out, a line each for what an operator must know."""
    lines = [
        ("file", error.file),
        ("key", error.key),
        ("value", "" if error.value is None else repr(error.value)),
        ("expected", error.expectation),
        ("did you mean", error.suggestion),
    ]
    return "\n".join(["fieldgate: configuration refused", *(f"  {name:<13} {text}" for name, text in lines if text)])


def main() -> None:
    """Be the command."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
