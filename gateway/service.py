"""What the operating system hands a service: secrets, by file or environment."""

from __future__ import annotations

import os
from pathlib import Path

from protocol.errors import ConfigurationRefused


def secret(section: str, name: str, *, file: str, env: str) -> str | None:
    """Read a secret from its file or variable: None if neither is configured, ConfigurationRefused if it is absent."""
    if file:
        try:
            return Path(file).read_text().strip()
        except OSError as error:
            raise ConfigurationRefused(f"{section}.{name}_file", file, f"a readable file ({error.strerror})") from None
    if env:
        try:
            return os.environ[env].strip()
        except KeyError:
            raise ConfigurationRefused(f"{section}.{name}_env", env, "a variable set in the environment") from None
    return None
