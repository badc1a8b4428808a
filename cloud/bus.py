"""The cloud's connection to the broker that `[bus]` names: its address, password and certificates."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

from cloud.certificates import context
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
        tls=context("bus", settings.ca_file, settings.cert_file, settings.key_file) if tls else None,
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
