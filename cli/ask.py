"""How a command asks a running cloud: where it is, with which token, and what its answers mean."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any, Literal, NamedTuple
from urllib.parse import urlencode, urlsplit

from cloud.config import CloudConfig
from protocol.endpoints import is_loopback
from protocol.errors import CloudRefused, CloudUnavailable, ConfigurationRefused

TIMEOUT_S = 10.0
MAX_REFUSAL = 64 << 10
"""Bytes that are read of a refusal."""


class Asked(NamedTuple):
    """A cloud's address, and the token that it is asked with; "" is none."""

    url: str
    token: str = ""


def url_of(settings: CloudConfig) -> str:
    """Say where a cloud of this configuration answers on this machine."""
    host, port = settings.address
    if not port:
        raise ConfigurationRefused("listen", settings.listen, "a fixed port; or give the URL that the cloud printed")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - where it listens, asked from here
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def ask(
    cloud: Asked,
    path: str,
    query: Mapping[str, object] | None = None,
    method: Literal["GET", "POST", "DELETE"] = "GET",
    body: bytes | None = None,
) -> dict[str, Any]:
    """Ask for a path; CloudUnavailable if nobody answers, CloudRefused if the answer is no."""
    text = urlencode({name: value for name, value in (query or {}).items() if value is not None})
    headers = {"Authorization": f"Bearer {cloud.token}"} if cloud.token else {}
    address = f"{cloud.url.rstrip('/')}{path}" + (f"?{text}" if text else "")
    if body is not None:
        headers["Content-Type"] = "application/octet-stream"
    request = urllib.request.Request(address, body, headers=headers, method=method)  # noqa: S310 - http or https only
    own = is_loopback(urlsplit(cloud.url).hostname or "")
    opener = urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if own else []))
    try:
        with opener.open(request, timeout=TIMEOUT_S) as answer:
            said: dict[str, Any] = json.loads(answer.read())
            return said
    except urllib.error.HTTPError as error:
        raise CloudRefused(error.code, f"{cloud.url} answered {error.code}: {_why(error)}") from None
    except (OSError, HTTPException, ValueError) as error:
        why = getattr(error, "reason", error)
        raise CloudUnavailable(f"{cloud.url} does not answer ({why}): does the cloud run?") from None


def _why(error: urllib.error.HTTPError) -> str:
    """Give what a cloud says of a refusal."""
    try:
        trouble = json.loads(error.read(MAX_REFUSAL))["error"]
        return f"{trouble['what']}; {trouble['do']}"
    except (OSError, HTTPException, ValueError, LookupError, TypeError):
        return "is it a cloud, and the token its own?"
