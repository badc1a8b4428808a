"""A replay in lines: windows and alerts as CSV, alerts and totals as a person reads them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from protocol.messages import Alert, WindowRows

WINDOWS = "series,definition,start,revision,count,mean,deviation,minimum,maximum,first,last"
ALERTS = "start,rule,series,score,threshold,revision,version,stamp"

SHOWN = 3
"""Series of a group that a line names."""


def window_lines(rows: WindowRows, names: Sequence[str]) -> Iterator[str]:
    """Give each window as a line of CSV; times in ns."""
    for series, *values in zip(*(column.tolist() for column in rows), strict=True):
        yield f"{_quoted(names[series])},{','.join(map(repr, values))}"


def alert_line(alert: Alert, names: Sequence[str]) -> str:
    """Give an alert as a line of CSV; times in ns, a group's series parted by spaces."""
    rule, series = _quoted(alert.rule), _quoted(" ".join(names[at] for at in alert.series))
    numbers = (alert.score, alert.threshold, alert.revision, alert.version, alert.stamp)
    return f"{alert.start},{rule},{series},{','.join(map(repr, numbers))}"


def alert_said(alert: Alert, names: Sequence[str]) -> str:
    """Say when its window began, what raised it, for which series, and how far beyond what."""
    by = f", by version {alert.version} of the model" if alert.version else ""
    return (
        f"{moment(alert.start)}  {alert.rule}  {_whom(alert, names)}"
        f"  {alert.score:.6g} beyond {alert.threshold:.6g}{by}"
    )


def alert_fields(alert: Alert, names: Sequence[str]) -> dict[str, Any]:
    """Give an alert as JSON has it: with names, and the time at which its window began."""
    return {
        "time": moment(alert.start),
        "rule": alert.rule,
        "series": [names[at] for at in alert.series],
        "score": alert.score,
        "threshold": alert.threshold,
        "version": alert.version,
    }


def _whom(alert: Alert, names: Sequence[str]) -> str:
    """Name the series that had most to do with it; without any it is about the gateway itself."""
    if not alert.series:
        return "the gateway"
    shares = alert.contributions or [0.0] * len(alert.series)
    order = sorted(range(len(alert.series)), key=lambda at: -shares[at] if at < len(shares) else 0.0)
    more = len(order) - SHOWN
    return " ".join(names[alert.series[at]] for at in order[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def moment(ns: int) -> str:
    """Give a time in UTC as ISO 8601, with as many decimals as it has."""
    seconds, rest = divmod(ns, 10**9)
    decimals = f".{rest:09}".rstrip("0") if rest else ""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}{decimals}Z"


def duration(ns: int) -> str:
    """Give a duration in seconds."""
    return f"{ns / 1e9:g} s"


def run_said(summary: dict[str, Any]) -> Iterator[str]:
    """Say what was read, and how fast."""
    series, records = f"{summary['series']:,} series", f"{summary['records']:,} records"
    rate = f"{summary['readings_per_second']:,} readings/s"
    yield f"read      {summary['readings']:,} readings of {series} in {records}, {rate}"
    if summary["damaged"]:
        yield f"damaged   {summary['damaged']:,} records could not be read"


def totals_said(summary: dict[str, Any]) -> Iterator[str]:
    """Say what became of the readings."""
    windowed, pending = f"{summary['windowed']:,} readings", f"{summary['pending']:,} readings in open windows"
    yield f"windows   {summary['windows']:,} of {windowed}, {pending}"
    yield f"removed   {_each(summary['removed'])}"
    yield f"late      {summary['late']:,}"
    yield f"scored    {summary['scored']:,} windows of groups, by detectors"
    yield f"alerts    {_each(summary['alerts'])}"


def difference_said(summary: dict[str, Any]) -> Iterator[str]:
    """Say where A and B differ."""
    for name, met in summary["rules"].items():
        yield f"alerts    {name}: {_only(met)}, in both {met['both']:,}"
    for name, one in summary["shapes"].items():
        columns = f" ({_each(one['columns'])})" if one["columns"] else ""
        yield f"windows   {name}: {_only(one)}, changed {one['changed']:,}{columns}, same {one['same']:,}"
    for reason, pair in summary["removed"].items():
        yield f"removed   {reason}: in A {pair['a']:,}, in B {pair['b']:,}"
    if late := summary["late"]:
        yield f"late      in A {late['a']:,}, in B {late['b']:,}"
    for what, number in summary["early"].items():
        if number:
            yield f"early     {number:,} {what} were taken to be on one side only before the other was heard to the end"
    if summary["equal"]:
        yield "equal     A and B make the same of these readings"


def _only(counts: dict[str, Any]) -> str:
    return f"only in A {counts['only_a']:,}, only in B {counts['only_b']:,}"


def _each(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {number:,}" for name, number in counts.items()) or "none"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if set(',"\n\r') & set(name) else name
