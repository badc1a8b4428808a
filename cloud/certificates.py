"""Certificates that a section of the configuration names: for a broker, or for a Dask cluster."""

from __future__ import annotations

import ssl

from protocol.errors import ConfigurationRefused


def context(section: str, ca_file: str, cert_file: str, key_file: str) -> ssl.SSLContext:
    """Give what a client verifies with and shows; ConfigurationRefused names the key whose file is none."""
    key, value = "ca_file", ca_file
    try:
        made = ssl.create_default_context(cafile=ca_file or None)
        if cert_file:
            key, value = "cert_file", cert_file
            made.load_cert_chain(cert_file, key_file or None)
    except OSError as error:  # SSLError is an OSError
        raise ConfigurationRefused(f"{section}.{key}", value, f"readable certificates ({error})") from None
    return made
