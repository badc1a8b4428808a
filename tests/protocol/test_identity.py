"""A signature holds for its key and its bytes only."""

from __future__ import annotations

import pytest

from protocol.identity import Signer, verify

SIGNER = Signer.from_seed(bytes(range(32)))
SIGNATURE = SIGNER.sign(b"manifest")


def test_a_key_is_the_same_read_back() -> None:
    again = Signer.from_pem(SIGNER.pem())
    assert (again.public, again.sign(b"manifest")) == (SIGNER.public, SIGNATURE)
    assert len(SIGNER.public) == 32


@pytest.mark.parametrize(
    ("public", "data", "signature", "holds"),
    [
        pytest.param(SIGNER.public, b"manifest", SIGNATURE, True, id="as signed"),
        pytest.param(SIGNER.public, b"manifesT", SIGNATURE, False, id="other bytes"),
        pytest.param(Signer.from_seed(bytes(32)).public, b"manifest", SIGNATURE, False, id="another key"),
        pytest.param(SIGNER.public, b"manifest", SIGNATURE[:-1], False, id="cut off"),
        pytest.param(b"", b"manifest", SIGNATURE, False, id="no key"),
        pytest.param(b"\xff" * 32, b"manifest", SIGNATURE, False, id="no point of the curve"),
    ],
)
def test_a_signature_holds_or_does_not(public: bytes, data: bytes, signature: bytes, holds: bool) -> None:
    assert verify(public, data, signature) is holds


def test_what_is_no_ed25519_key_is_refused() -> None:
    with pytest.raises(ValueError, match="PEM"):
        Signer.from_pem(b"-----BEGIN NONSENSE-----")
