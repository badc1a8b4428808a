"""Ed25519 signatures: who made a manifest. The only home of `cryptography`; files are the caller's.

It is imported when a signature is made or checked: 7 MB that a gateway without models can do without.
"""

# ruff: noqa: PLC0415 - imports inside functions: see above

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SIGNATURE_SIZE = 64
PUBLIC_SIZE = 32


class Signer:
    """A private key. `public` is its other half, 32 bytes, which others pin."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = key.public_key().public_bytes_raw()

    @classmethod
    def from_seed(cls, seed: bytes) -> Signer:
        """Make the key of 32 secret random bytes."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    @classmethod
    def from_pem(cls, text: bytes) -> Signer:
        """Read what `pem` wrote; ValueError if it is not an Ed25519 key."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        key = load_pem_private_key(text, password=None)
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError("not an Ed25519 key")  # noqa: TRY004 - the text is at fault, not the caller's types
        return cls(key)

    def pem(self) -> bytes:
        """Give the key as PKCS #8 text, unencrypted: the file it goes to must be private."""
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def sign(self, data: bytes) -> bytes:
        """Give the 64 bytes that only this key can make for `data`."""
        return self._key.sign(data)


def verify(public: bytes, data: bytes, signature: bytes) -> bool:
    """Say whether the key with this public half signed `data`; anything malformed is False."""
    if len(public) != PUBLIC_SIZE or len(signature) != SIGNATURE_SIZE:
        return False
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True
