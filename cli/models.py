"""What a running cloud says of its models, as lines for a terminal."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from cloud.config import CloudConfig
from protocol.endpoints import is_loopback
from protocol.errors import CloudRefused, CloudUnavailable, ConfigurationRefused

TIMEOUT_S = 10.0


def url_of(settings: CloudConfig) -> str:
    """Say where a cloud of this configuration answers on this machine."""
    host, port = settings.address
    if not port:
        raise ConfigurationRefused("listen", settings.listen, "a fixed port; or give the URL that the cloud printed")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - where it listens, asked from here
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def fetch(url: str, token: str) -> dict[str, Any]:
    """Ask for /v1/models; CloudUnavailable if nobody answers, CloudRefused if the answer is no."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(f"{url.rstrip('/')}/v1/models", headers=headers)  # noqa: S310 - http or https only
    own = is_loopback(urlsplit(url).hostname or "")
    opener = urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if own else []))
    try:
        with opener.open(request, timeout=TIMEOUT_S) as answer:
            body: dict[str, Any] = json.loads(answer.read())
            return body
    except urllib.error.HTTPError as error:
        raise CloudRefused(error.code, f"{url} answered {error.code}: is it a cloud, and the token its own?") from None
    except (OSError, HTTPException, ValueError) as error:
        raise CloudUnavailable(
            f"{url} does not answer ({getattr(error, 'reason', error)}): does the cloud run?"
        ) from None


def lines(body: dict[str, Any]) -> Iterator[str]:
    """Lay the answer out: a line a model, and one for each gateway that has it."""
    if not body["models"]:
        yield "no models: no gateway has sent statistics yet"
    for model in body["models"]:
        about = f"version {model['version']}, {model['size']:,} bytes, {model['digest'][:12]}"
        yield f"{model['name']}  {about if model['version'] else 'no version yet'}"
        for run in model["gateways"]:
            yield f"  {_run(run)}"


def _run(run: dict[str, Any]) -> str:
    runs = f"version {run['version']}" if run["version"] else "no version"
    counts = f"{run['windows']:,} windows, {run['alerts']:,} alerts, {run['shadow']:,} in the shadow"
    refused = run["refused"]
    said = f"; refused version {refused['version']}: {refused['reason']}" if refused else ""
    return f"{run['gateway']:<20} {runs:<12} {counts}{said}"
