"""What a refused certificate says of our clock. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

DATES = ("certificate is not yet valid", "certificate has expired")
"""OpenSSL's words (X509_verify_cert_error_string(3)); whatever carries the error has them in its text."""


def is_of_dates(why: str) -> bool:
    """Whether a connection failed because, by our clock, a certificate does not count yet or no more."""
    return any(words in why for words in DATES)


def suspect_clock(why: str, now: int) -> str:
    """Give why a connection failed; where dates did it, with what our clock says (ns), which is the likely cause."""
    if not is_of_dates(why):
        return why
    return f"{why}; is our clock wrong? It says {datetime.fromtimestamp(now // 10**9, UTC):%Y-%m-%d}"
