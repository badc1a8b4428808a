"""A real Dask cluster on this machine: a scheduler and workers as processes, over TLS with an authority of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.journeys.processes import Child, python


def certify(directory: Path) -> dict[str, str]:
    """Make an authority and what it signs; give the files by their keys in the configuration."""
    authority, own = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    of_authority = _signed("authority", authority.public_key(), authority, ca=True)
    of_own = _signed("cluster", own.public_key(), authority, ca=False)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    files = {
        "ca_file": of_authority.public_bytes(serialization.Encoding.PEM),
        "cert_file": of_own.public_bytes(serialization.Encoding.PEM),
        "key_file": own.private_bytes(*form),
    }
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (directory / name).write_bytes(content)
    return {name: str(directory / name) for name in files}


def _signed(name: str, key: ec.EllipticCurvePublicKey, by: ec.EllipticCurvePrivateKey, *, ca: bool) -> x509.Certificate:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")]))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .sign(by, hashes.SHA256())
    )


@dataclass
class Cluster:
    """A scheduler at `address`, and workers, none of them started yet; each worker is one process, without a nurse."""

    directory: Path
    port: int
    files: dict[str, str]
    children: list[Child] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"tls://127.0.0.1:{self.port}"

    async def scheduler(self) -> Child:
        more = ["--host", "127.0.0.1", "--port", str(self.port), "--protocol", "tls", "--no-dashboard"]
        return await self._start("scheduler", more)

    async def worker(self) -> Child:
        more = [self.address, "--host", "127.0.0.1", "--nthreads", "2", "--no-nanny", "--no-dashboard"]
        return await self._start("worker", [*more, "--death-timeout", "60"])

    async def _start(self, what: str, more: list[str]) -> Child:
        tls = ["--tls-ca-file", self.files["ca_file"]]
        tls += ["--tls-cert", self.files["cert_file"], "--tls-key", self.files["key_file"]]
        log = self.directory / f"{what}-{len(self.children)}.log"
        start = python("-m", f"distributed.cli.dask_{what}")
        child = Child(await start(log, [*more, *tls]), log)
        self.children.append(child)
        return child


@asynccontextmanager
async def cluster(directory: Path, port: int) -> AsyncIterator[Cluster]:
    """Leave nothing of a cluster behind."""
    made = Cluster(directory, port, certify(directory / "tls"))
    try:
        yield made
    finally:
        await asyncio.gather(*(child.close() for child in made.children))


# On a worker.


def hold(directory: str) -> int:
    """Say whose process this is, and wait until somebody says go."""
    (Path(directory) / str(os.getpid())).touch()
    while not (Path(directory) / "go").exists():
        time.sleep(0.01)
    return os.getpid()


def die() -> None:
    """End this process at once."""
    os.kill(os.getpid(), signal.SIGKILL)
