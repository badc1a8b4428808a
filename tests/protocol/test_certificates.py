"""A certificate that does not count yet is tried for ever, with a word about our clock; when it counts, all is well."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from random import Random

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway import config
from gateway.config import Broker
from gateway.intake import Intake
from gateway.segment import OsFiles
from gateway.spool import Spool
from gateway.uplink import Meter, Uplink
from protocol.certificates import is_of_dates, suspect_clock
from protocol.messages import Hello
from tests.waiting import until

NOW = 86_400 * 10**9

NOT_YET = "certificate verify failed: certificate is not yet valid (_ssl.c:1000)"


@pytest.mark.parametrize(
    ("why", "said"),
    [
        (NOT_YET, f"{NOT_YET}; is our clock wrong? It says 1970-01-02"),
        ("certificate has expired", "certificate has expired; is our clock wrong? It says 1970-01-02"),
        ("self-signed certificate", "self-signed certificate"),
    ],
)
def test_only_dates_make_the_clock_suspect(why: str, said: str) -> None:
    assert suspect_clock(why, NOW) == said
    assert is_of_dates(why) == (why != said)


def certificate(directory: Path, called: str, valid_from: datetime) -> tuple[Path, Path]:
    """A self-signed certificate for loopback, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, called)])
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(valid_from)
        .not_valid_after(valid_from + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, key_pem = directory / f"{called}.pem", directory / f"{called}.key"
    pem.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    key_pem.write_bytes(key.private_bytes(*form))
    return pem, key_pem


@asynccontextmanager
async def serving(context: ssl.SSLContext, reached: Callable[[], None]) -> AsyncIterator[int]:
    """Serve TLS and nothing else while the block runs; `reached` hears of each handshake that succeeds."""

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached()
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


class Hasty(Random):
    def uniform(self, a: float, b: float) -> float:
        return min(a + 0.1, b)


Told = list[tuple[bool, str]]


def intake(broker: Broker, told: Told) -> Intake:
    return Intake(broker, "g", [("s/#", 1)], None, lambda _: None, lambda *state: told.append(state), Hasty())


def uplink(broker: Broker, told: Told) -> Uplink:
    directory = Path(broker.ca_file).parent
    spool = Spool.open(OsFiles(), directory / "spool", config.Spool(), new_epoch=lambda: 1)
    return Uplink(
        config.Uplink(url=broker.url.replace("mqtts", "https"), ca_file=broker.ca_file),
        "secret",
        spool,
        lambda: Hello("g", 1, spool.heads()),
        rng=Hasty(),
        on_fork=lambda _: asyncio.sleep(0),
        on_gone=lambda *_: None,
        on_state=lambda *state: told.append(state),
        meter=Meter(OsFiles(), directory / "uplink.json", lambda: 0, dict),
    )


@pytest.mark.parametrize("make", [intake, uplink])
async def test_a_certificate_that_does_not_count_yet_is_tried_until_it_does(
    make: Callable[[Broker, Told], Intake | Uplink], tmp_path: Path
) -> None:
    future = certificate(tmp_path, "future", datetime.now(UTC) + timedelta(days=1))
    present = certificate(tmp_path, "present", datetime.now(UTC) - timedelta(hours=1))
    authorities = tmp_path / "authorities.pem"
    authorities.write_text(future[0].read_text() + present[0].read_text())
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*future)
    told: Told = []
    handshakes: list[bool] = []
    async with serving(context, lambda: handshakes.append(True)) as port:
        side = make(Broker(url=f"mqtts://127.0.0.1:{port}", ca_file=str(authorities)), told)
        task = asyncio.create_task(side.run())
        await until(lambda: told, "it says why there is no connection")
        assert told[0][0] is False
        assert "certificate is not yet valid" in told[0][1]
        assert "is our clock wrong? It says 2" in told[0][1]
        assert not handshakes
        context.load_cert_chain(*present)  # as if our clock had been set
        await until(lambda: handshakes, "it is tried again", within=20)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
