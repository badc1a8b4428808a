"""An alert as whoever is near the gateway hears it: one JSON object, with names in place of numbers. Pure.

Keys: series, start, revision, stamp, score, rule, version, threshold, contributions (a share for each of `series`, in
their order), missing, domain ("" is UTC, else a boot id). Times are ns since 1970. An alert is identified by its
series, start and revision: it may be heard twice. One without series is about the gateway itself (`bursts`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from gateway.records import Alerts, Outputs
from protocol.messages import Alert


def said(outputs: Outputs, names: Sequence[str]) -> Iterator[bytes]:
    """Give each alert of a record as JSON; `names` are those of all series, by number."""
    for item in outputs.items:
        if isinstance(item, Alerts):
            yield from (_json(alert, item.domain, names) for alert in item.alerts)


def _json(alert: Alert, domain: str, names: Sequence[str]) -> bytes:
    named = {"series": [names[at] for at in alert.series], "missing": [names[at] for at in alert.missing]}
    return msgspec.json.encode(msgspec.structs.asdict(alert) | named | {"domain": domain})
