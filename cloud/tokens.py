"""Who may speak: tokens of gateways and of the administrator, and the cloud's signing key. All files are 0600.

    data/tokens.json     SHA-256 of every token; what decides
    data/signing.key     the Ed25519 key that signs models; gateways pin its public half
    data/admin.token     the administrator's token, made at first start
    data/NAME.token      a gateway's token, for handing over; may be deleted afterwards

A token speaks for one gateway only. The file of hashes is read again when it has changed, so a token issued by another
process counts at once.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

import msgspec

from cloud.store import OURS
from protocol.errors import ConfigurationRefused
from protocol.identity import Signer
from protocol.settings import NAME, RESERVED

FIRST_GATEWAY = "gateway-1"
"""The gateway that the first start makes a token for."""


class Hashes(msgspec.Struct):
    """The content of tokens.json: hexadecimal SHA-256."""

    admin: str = ""
    gateways: dict[str, str] = {}


class Tokens:
    """The tokens in a data directory. `fresh` says that this start made them."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.fresh = False
        self._path = data / "tokens.json"
        self._stamp = (0, 0)
        self._hashes = Hashes()
        self._by_hash: dict[str, str] = {}

    @classmethod
    def open(cls, data: Path) -> Tokens:
        """Read the directory, making what is missing."""
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        tokens = cls(data)
        if not (data / "signing.key").exists():
            write_secret(data / "signing.key", Signer.from_seed(secrets.token_bytes(32)).pem().decode())
        if tokens._path.exists():
            tokens._reload()
            return tokens
        tokens.fresh = True
        admin = secrets.token_urlsafe(24)
        write_secret(data / "admin.token", admin + "\n")
        tokens._hashes.admin = digest(admin)
        tokens.issue(FIRST_GATEWAY)
        return tokens

    def signer(self) -> Signer:
        """Give the cloud's signing key."""
        path = self.data / "signing.key"
        try:
            return Signer.from_pem(path.read_bytes())
        except ValueError:
            expectation = "the Ed25519 key that the first start made: gateways pin its public half; restore it"
            raise ConfigurationRefused("signing.key", None, expectation, file=str(path)) from None

    def issue(self, gateway: str) -> str:
        """Make a gateway's token, replacing an earlier one; it is also left in `NAME.token`."""
        if not NAME.fullmatch(gateway) or gateway in RESERVED:
            expectation = f"a name of letters, digits, '.', '_', '-' other than {' and '.join(RESERVED)}"
            raise ConfigurationRefused("gateway", gateway, expectation)
        self._reload()
        token = secrets.token_urlsafe(24)
        self._hashes.gateways[gateway] = digest(token)
        write_secret(self.token_file(gateway), token + "\n")
        write_secret(self._path, msgspec.json.format(msgspec.json.encode(self._hashes)).decode() + "\n")
        self._reload()
        return token

    def token_file(self, name: str) -> Path:
        """Where the token of a gateway, or of `admin`, is left."""
        return self.data / f"{name}.token"

    def gateway_of(self, token: str) -> str | None:
        """Give the name of the gateway that a token speaks for."""
        self._reload()
        return self._by_hash.get(digest(token))  # found by digest: what time it takes says nothing about the token

    def is_admin(self, token: str) -> bool:
        """Say whether this is the administrator's token."""
        self._reload()
        return bool(self._hashes.admin) and hmac.compare_digest(self._hashes.admin, digest(token))

    def _reload(self) -> None:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return
        if (stamp := (status.st_mtime_ns, status.st_ino)) == self._stamp:
            return
        try:
            self._hashes = msgspec.json.decode(self._path.read_bytes(), type=Hashes)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ConfigurationRefused("tokens.json", str(error), "hashes as issued", file=str(self._path)) from None
        self._by_hash = {value: name for name, value in self._hashes.gateways.items() if name != OURS}
        self._stamp = stamp


def digest(token: str) -> str:
    """Give what is kept of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def write_secret(path: Path, text: str) -> None:
    """Write a file only its owner can read, all of it or nothing; OSError names the file."""
    part = path.with_name(path.name + ".part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    part.replace(path)
