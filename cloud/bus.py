"""The cloud's connection to the broker that `[bus]` names: its address, password and certificates."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from random import Random

from cloud.config import Bus
from protocol.errors import ConfigurationRefused
from protocol.mqtt import MqttBus


def connect(settings: Bus) -> MqttBus:
    """Make the connection, not yet begun; ConfigurationRefused if a file or a variable cannot be had."""
    host, port, tls = settings.address
    return MqttBus(
        host,
        port,
        settings.client_id,
        rng=Random(),  # noqa: S311 - spreads reconnects, keeps no secret
        tls=_tls(settings) if tls else None,
        username=settings.username or None,
        password=_password(settings),
    )


def _password(settings: Bus) -> str | None:
    if settings.password_file:
        try:
            return Path(settings.password_file).read_text().strip()
        except OSError as error:
            expectation = f"a readable file ({error.strerror})"
            raise ConfigurationRefused("bus.password_file", settings.password_file, expectation) from None
    if settings.password_env and settings.password_env not in os.environ:
        raise ConfigurationRefused("bus.password_env", settings.password_env, "a variable set in the environment")
    return os.environ[settings.password_env].strip() if settings.password_env else None


def _tls(settings: Bus) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ca_file or None)
        if settings.cert_file:
            context.load_cert_chain(settings.cert_file, settings.key_file or None)
    except OSError as error:  # SSLError is an OSError
        key = "cert_file" if settings.cert_file else "ca_file"
        raise ConfigurationRefused(f"bus.{key}", getattr(settings, key), f"readable certificates ({error})") from None
    return context
