"""The ledger of a running cloud: as lines for a terminal, and what is missing by it. Pure.

Missing is what will not, or not yet, be in the store: a hole in the epoch that counts, a frame that was dropped or not
understood, messages that a gateway's broker dropped; and what says that a gateway's data was copied. What only waits on
the gateway is not missing. An epoch that has ended has no holes: what it still held was said again in the next one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cli.doctor.judge.finding import span
from cli.terminal import when
from protocol.messages import LOST

Body = dict[str, Any]
COLUMNS = ["lane", "received", "duplicate", "quarantined", "holes", "dropped", "waiting", "oldest"]
SHOWN = 3
"""Holes that a line names."""


def lines(body: Body) -> Iterator[str]:
    """Lay the numbers out: a heading for each gateway and epoch, a line for each lane."""
    if not body["gateways"]:
        yield "nothing yet: no gateway has called"
    for number, account in enumerate(body["gateways"]):
        yield from [""] if number else []
        seen = "online" if account["online"] else f"offline, last heard of {when(account['last_seen'])}"
        yield f"{account['gateway']}  {seen}"
        for epoch in account["epochs"]:
            yield from _epoch(body, account, epoch)


def missing(body: Body, within: int | None = None) -> list[str]:
    """Say what is missing, a line each; with `within` (ns) only holes, and what was declared in the time up to now."""
    after = body["now"] - within if within is not None else 0
    found: list[str] = []
    for account in body["gateways"]:
        texts = [text for lane in _lanes(body, account) for text in _missing_of(account, lane, after)]
        texts += [_remarked(epoch) for epoch in account["epochs"] if _remark(epoch) and epoch["remarked"] >= after]
        texts += _counted(account["counts"]) if within is None else []
        found += [f"{account['gateway']}: {text}" for text in texts]
    return found


def _epoch(body: Body, account: Body, epoch: Body) -> Iterator[str]:
    current = epoch["epoch"] == account["epoch"]
    yield f"  epoch {epoch['epoch']}, {'since' if current else 'not in use; it began'} {when(epoch['began'])}"
    lanes = [lane for lane in _lanes(body, account) if lane["epoch"] == epoch["epoch"]]
    shown = [lane for lane in lanes if current or lane["received"] or lane["dropped_frames"]]
    yield from _table([_cells(lane, body["now"], current=current) for lane in shown])


def _cells(lane: Body, now: int, *, current: bool) -> list[str]:
    counts = [f"{lane[name]:,}" for name in ("received", "duplicate", "quarantined")]
    holes, waiting = (f"{_size(lane['holes']):,}", f"{lane['queued']:,}") if current else ("-", "-")
    oldest = span(max(0, now - lane["since"]) / 1e9) if lane["since"] and current else "-"
    return [lane["lane"], *counts, holes, f"{lane['dropped_frames']:,}", waiting, oldest]


def _table(rows: list[list[str]]) -> Iterator[str]:
    table = [COLUMNS, *rows] if rows else []
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for first, *cells in table:
        numbers = [f"{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True)]
        yield "    " + "  ".join([f"{first:<{widths[0]}}", *numbers])


def _lanes(body: Body, account: Body) -> list[Body]:
    return [lane for lane in body["ledger"] if lane["gateway"] == account["gateway"]]


def _missing_of(account: Body, lane: Body, after: int) -> Iterator[str]:
    if lane["epoch"] == account["epoch"]:
        yield from _holes(lane)
    yield from _drops(lane, after)
    if lane["quarantined"] and not after:
        yield f"{lane['lane']}: {_frames(lane['quarantined'])} not understood; /v1/quarantine says why"


def _holes(lane: Body) -> Iterator[str]:
    if lane["holes"]:
        ranges = [f"{first:,} to {last:,}" if first < last else f"{first:,}" for first, last in lane["holes"]]
        more = f" and {len(ranges) - SHOWN} more" if len(ranges) > SHOWN else ""
        yield f"{lane['lane']}: {_frames(_size(lane['holes']))} not here yet: {', '.join(ranges[:SHOWN])}{more}"


def _drops(lane: Body, after: int) -> Iterator[str]:
    for cause in lane["causes"]:
        if cause["stored"] >= after:
            spooled = f", spooled {_between(cause)}" if cause["oldest"] or cause["newest"] else ""
            yield f"{lane['lane']}: {_frames(cause['frames'])} dropped, {cause['cause']}{spooled}"


def _between(cause: Body) -> str:
    if not cause["oldest"]:
        return f"before {when(cause['newest'])}"
    if not cause["newest"]:
        return f"after {when(cause['oldest'])}"
    return f"{when(cause['oldest'])} to {when(cause['newest'])}"


def _counted(counts: dict[str, int]) -> list[str]:
    """Say what a gateway itself counts as lost."""
    broker = counts.get("broker", 0)
    texts = [f"its broker dropped {broker:,} messages, of this or other clients"] if broker else []
    for name, number in sorted(counts.items()):
        if name.startswith(LOST):
            lane, _, cause = name.removeprefix(LOST).partition(".")
            texts.append(f"{lane}: {_frames(number)} lost with an earlier epoch, {cause}")
    return texts


def _remark(epoch: Body) -> str:
    return str(epoch["fork"] or epoch["remark"])


def _remarked(epoch: Body) -> str:
    return f"epoch {epoch['epoch']}: {_remark(epoch)}"


def _frames(number: int) -> str:
    return f"{number:,} frame{'s' if number != 1 else ''}"


def _size(ranges: list[tuple[int, int]]) -> int:
    return sum(last - first + 1 for first, last in ranges)
