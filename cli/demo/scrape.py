"""Questions to the demonstration's own HTTP addresses, on the loopback, past any proxy."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping
from http.client import HTTPException
from typing import Any
from urllib.parse import urlencode

from cli.demo.counts import Edge, edge_of, read_metrics

TIMEOUT_S = 5.0
PAGE = 10_000
"""Rows asked for at a time: the most the cloud gives."""

_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Unanswered(Exception):
    """Nobody answers there now, or not well: ask again later."""


async def get(url: str) -> bytes:
    """Ask one address; Unanswered if there is no good answer."""
    return await asyncio.to_thread(_get, url)


def _get(url: str) -> bytes:
    try:
        with _opener.open(url, timeout=TIMEOUT_S) as answer:
            body: bytes = answer.read()
            return body
    except (OSError, HTTPException) as error:  # URLError and HTTPError are OSErrors
        raise Unanswered(f"{url}: {error}") from None


async def ready(url: str) -> bool:
    """Say whether /readyz is content."""
    try:
        await get(f"{url}/readyz")
    except Unanswered:
        return False
    return True


async def edge(port: int) -> Edge:
    """Ask a gateway for its counts."""
    return edge_of(read_metrics((await get(f"http://127.0.0.1:{port}/metrics")).decode()))


async def trainings(cloud: str) -> list[dict[str, Any]]:
    """Ask the cloud for its trainings."""
    found: list[dict[str, Any]] = json.loads(await get(f"{cloud}/v1/trainings"))["trainings"]
    return found


async def fleet(cloud: str) -> list[dict[str, Any]]:
    """Ask the cloud for its gateways."""
    found: list[dict[str, Any]] = json.loads(await get(f"{cloud}/v1/gateways"))["gateways"]
    return found


async def alerts(cloud: str) -> list[Mapping[str, Any]]:
    """Give the newest alerts, a page of them."""
    found: list[Mapping[str, Any]] = json.loads(await get(f"{cloud}/v1/alerts?limit={PAGE}"))["alerts"]
    return found


async def counters(cloud: str, gateway: str) -> dict[str, int]:
    """Give the ids of a gateway's series of counters, by device."""
    query = {"gateway": gateway, "match": "*/n", "limit": PAGE}
    found = json.loads(await get(f"{cloud}/v1/series?{urlencode(query)}"))["series"]
    return {one["name"].removesuffix("/n"): one["id"] for one in found}


async def windows(cloud: str, series: int, since: int) -> AsyncIterator[list[Mapping[str, Any]]]:
    """Give all windows of a series from a time (ns) on, in pages."""
    at: int | None = since
    while at is not None:
        query = {"series": series, "from": at, "limit": PAGE}
        page = json.loads(await get(f"{cloud}/v1/windows?{urlencode(query)}"))
        yield page["windows"]
        at = page["next"]
