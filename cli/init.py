"""`fieldgate gateway init`: listens to the broker, writes a proposed configuration, and says what it made of what."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from pathlib import Path
from random import SystemRandom

import click
import mqtt5
import msgspec

from cli.listen import listen
from cli.proposal import Ear, Settings, configuration, propose, summary
from cli.simulate import broker_of
from gateway import config
from gateway.config import Broker
from protocol.errors import BrokerUnavailable, FieldgateError


class NothingToPropose(FieldgateError):
    """No configuration can be proposed; the text says why, and what to do."""


def init(
    url: str,
    output: Path,
    *,
    seconds: float,
    name: str,
    username: str,
    password_file: Path | None,
    ca_file: Path | None,
    force: bool,
) -> None:
    """Listen, propose, write and report; NothingToPropose if there is nothing that a gateway could read."""
    if output.exists() and not force:
        raise NothingToPropose(f"{output} exists; --force replaces it, --output FILE writes another one")
    if not output.absolute().parent.is_dir():
        raise NothingToPropose(f"{output}: there is no such directory; --output FILE writes elsewhere")
    broker, password = broker_of(url, password_file)
    broker = _given(broker, username, password_file, ca_file)
    click.echo(f"Listening to {broker.url} for {seconds:g} s ...", err=True)
    ear = asyncio.run(hear(broker, password, seconds))
    settings = Settings(name or _host(), str(output.absolute().parent / "fieldgate-data"), broker, seconds)
    proposal = propose(ear, round(seconds * 1e9))
    for line in summary(proposal, ear, settings):
        click.echo(line)
    if not proposal.sources:
        raise NothingToPropose(_nothing(ear, broker))
    text = configuration(proposal, settings)
    config.parse(text, str(output))  # what is refused must not be written
    output.write_text(text, encoding="utf-8")
    click.echo(f"Written: {output}. Next: fieldgate gateway check {output}, then fieldgate gateway run {output}")


async def hear(broker: Broker, password: bytes | None, seconds: float) -> Ear:
    """Listen to everything; NothingToPropose if the broker does not let us."""
    ear = Ear()

    def take(messages: list[mqtt5.PublishPacket]) -> bool:
        now = time.time_ns()
        for message in messages:
            ear.hear(message.topic, bytes(message.payload or b""), message.retain, now)
        return False

    client_id = f"fieldgate-init-{SystemRandom().getrandbits(32):08x}"
    try:
        await listen(broker, client_id, take, password, seconds=seconds)
    except BrokerUnavailable as error:
        raise NothingToPropose(f"{error}\n{REACH}") from None
    return ear


REACH = """\
Is a broker running there? --broker mqtt://host:port says where it is, mqtts:// with --ca-file FILE speaks TLS;
--username NAME --password-file FILE if it wants to know who we are. It must speak MQTT 5."""


def _nothing(ear: Ear, broker: Broker) -> str:
    if ear.topics:
        return "nothing that was heard holds a number; see above what was left out, and docs/configuration.md"
    who = f"user {broker.username}" if broker.username else "anybody without --username and --password-file"
    return (
        f"{broker.url} answers, and nothing was published. Does anything publish there? Slow devices need a longer"
        f" --seconds. May {who} read it?"
    )


def _given(broker: Broker, username: str, password_file: Path | None, ca_file: Path | None) -> Broker:
    """Add what the options say to the broker, as the file will have it."""
    scheme, _, rest = broker.url.partition("://")
    return msgspec.structs.replace(
        broker,
        url=f"{scheme}://{rest.rpartition('@')[2]}",
        username=username or broker.username,
        password_file=str(password_file.absolute()) if password_file else "",
        ca_file=str(ca_file.absolute()) if ca_file else "",
    )


def _host() -> str:
    """Give this machine's name, as far as a gateway may be called so."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname()).lstrip("_.-")[:63]
    return name or "gateway"
