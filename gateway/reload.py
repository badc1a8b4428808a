"""What another configuration means for a gateway at work. Pure: it decides, and `renew` carries out.

| what differs | how it takes effect |
|---|---|
| `clean`, `window`, `score`, `rule`, `time`, `max_series` | a journal record, between two others |
| `source` | from the next message on; subscribed and unsubscribed on the connection that is there |
| `journal`, `spool`, `min_free`, the bounds of `uplink` | from the next record, file or frame on |
| `http` | the new address is listened on before the old one is left |
| `devices`, or what its files hold | that connection is made again; the broker keeps the session |
| `uplink.url`, its token, its authorities | likewise; the spool keeps what waits |
| `bus`, `models`, `tasks`, a name among `score` | likewise; models and tasks are announced anew |
| `name`, `data`, and what this file does not know | by a restart only: refused |

Rules:

1. All or nothing: where one key is refused, all of the old configuration stays.
2. What is the same is not touched: its connection stays, its windows stay open.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, NamedTuple

from gateway.config import Broker, GatewayConfig
from protocol.errors import ConfigurationRefused
from protocol.settings import Section

BY_RECORD = frozenset({"clean", "window", "score", "rule", "time", "max_series"})
AT_ONCE = frozenset(
    {
        "source",
        "journal",
        "spool",
        "min_free",
        "http",
        "uplink",
        "devices",
        "bus",
        "models",
        "tasks",
        "classify",
        "cascade",
    }
)

BY_RESTART = {
    "name": "a gateway's name stands in what it has spooled",
    "data": "journal and spool are open there",
}

Line = Literal["devices", "uplink", "bus"]
LINES: tuple[Line, ...] = ("devices", "uplink", "bus")

OUTCOMES = ("applied", "unchanged", "refused")

MAX_REFUSAL = 400
"""Characters, on one line: so much of it fits a status."""


class Secrets(NamedTuple):
    """What a configuration only points to: passwords, the token, and a digest of each TLS file by path."""

    devices: str | None = None
    bus: str | None = None  # the devices' where one broker serves both
    uplink: str | None = None
    files: Mapping[str, str] = MappingProxyType({})


class Plan(NamedTuple):
    """What differs, as a person would name it, and which connections must be made again."""

    changed: list[str]
    again: list[Line]
    listen: bool  # on another address


@dataclass(slots=True)
class Reloads:
    """How reloads went. `refusal` stands until one succeeds; `at` is when the configuration in force was read (ns)."""

    at: int
    took: int = 0  # ns, of the last one that succeeded
    refusal: str = ""
    outcomes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(OUTCOMES, 0))

    def succeeded(self, plan: Plan, at: int, took: int) -> None:
        """Note one that was carried out, or had nothing to do."""
        self.outcomes["applied" if plan.changed else "unchanged"] += 1
        self.at, self.took, self.refusal = at, took, ""

    def refused(self, why: str) -> None:
        """Note one that changed nothing."""
        self.outcomes["refused"] += 1
        self.refusal = " ".join(why.split())[:MAX_REFUSAL]


def plan(old: GatewayConfig, new: GatewayConfig, had: Secrets, has: Secrets) -> Plan:
    """Say what must be done; ConfigurationRefused if that takes a restart."""
    changed = differences(old, new)
    for key in dict.fromkeys(name.partition(".")[0] for name in changed):
        if key not in BY_RECORD | AT_ONCE:
            why = BY_RESTART.get(key, "it is read when the gateway starts")
            raise ConfigurationRefused(key, getattr(new, key), f"{getattr(old, key)!r} until a restart: {why}")
    before, after = _settings(old), _settings(new)
    held, holds = _contents(old, had), _contents(new, has)
    here = [line for line in LINES if before[line] is not None or after[line] is not None]
    secret = [line for line in here if held[line] != holds[line]]
    again = [line for line in here if before[line] != after[line] or line in secret]
    return Plan(changed + [f"secrets of {line}" for line in secret], again, old.http != new.http)


def differences(old: Section, new: Section, within: str = "") -> list[str]:
    """Name the keys whose values differ, as the file has them."""
    found: list[str] = []
    for key in old.__struct_fields__:
        before, after = getattr(old, key), getattr(new, key)
        if isinstance(before, Section) and isinstance(after, Section):
            found += differences(before, after, f"{within}{key}.")
        elif before != after:
            found.append(f"{within}{key}")
    return found


def _settings(config: GatewayConfig) -> dict[Line, object]:
    """Give what each connection is made of, by the file; None for one that there is not."""
    names = {score.name for score in config.score}  # models of these are told to whoever subscribes, once
    bus = (config.bus or config.devices, config.bus is None, config.models, config.tasks, names)
    return {
        "devices": config.devices,
        "uplink": config.uplink.url or None,
        "bus": bus if config.wants_models else None,
    }


def _contents(config: GatewayConfig, secrets: Secrets) -> dict[Line, object]:
    """Give what the files of each connection hold."""
    return {
        "devices": (secrets.devices, _files(config.devices, secrets)),
        "uplink": (secrets.uplink, secrets.files.get(config.uplink.ca_file)),
        "bus": (secrets.bus, _files(config.bus or config.devices, secrets)),
    }


def _files(broker: Broker, secrets: Secrets) -> list[str | None]:
    return [secrets.files.get(path) for path in (broker.ca_file, broker.cert_file, broker.key_file)]
