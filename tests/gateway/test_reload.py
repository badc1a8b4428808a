"""What another configuration means for a gateway at work: which parts change, and which connections are made again."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from gateway.config import (
    Broker,
    Cascade,
    Classify,
    Clean,
    Duration,
    GatewayConfig,
    Http,
    Journal,
    Models,
    Rule,
    Score,
    Size,
    Source,
    Spool,
    Tasks,
    Time,
    Uplink,
    Window,
)
from gateway.reload import AT_ONCE, BY_RECORD, BY_RESTART, MAX_REFUSAL, Plan, Reloads, Secrets, plan
from protocol.errors import ConfigurationRefused

KEY = "ab" * 32
UPLINK = Uplink(url="http://cloud", token_file="token")
CONFIG = GatewayConfig(
    "barn", "data", (Source("s/{device}/{measurement}"),), uplink=UPLINK, models=Models(public_key=KEY)
)
HELD = Secrets("word", "word", "token", {"ca.pem": "1", "other.pem": "2"})
OTHER_SOURCE = Source("t/{device}/{measurement}")
PATIENT = replace(UPLINK, max_rate=Size(1000), max_in_flight=Size(9), pack_interval=Duration(5))


def test_nothing_differs_from_itself() -> None:
    assert plan(CONFIG, CONFIG, HELD, HELD) == Plan([], [], listen=False)


@pytest.mark.parametrize(
    ("changes", "changed", "again"),
    [
        ({"source": (OTHER_SOURCE,)}, ["source"], []),
        ({"clean": (Clean(max=3),)}, ["clean"], []),
        ({"window": (Window(), Window(size=Duration(60 * 10**9)))}, ["window"], []),
        ({"rule": (Rule("value > 3"),)}, ["rule"], []),
        ({"time": Time(idle=Duration(9)), "max_series": 7}, ["time.idle", "max_series"], []),
        ({"journal": Journal(max_age=Duration(9))}, ["journal.max_age"], []),
        ({"spool": Spool(alerts_bytes=Size(9))}, ["spool.alerts_bytes"], []),
        ({"min_free": Size(9)}, ["min_free"], []),
        ({"uplink": PATIENT}, ["uplink.max_rate", "uplink.pack_interval", "uplink.max_in_flight"], []),
        ({"uplink": replace(UPLINK, url="http://b")}, ["uplink.url"], ["uplink"]),
        ({"uplink": Uplink()}, ["uplink.url", "uplink.token_file"], ["uplink"]),
        ({"uplink": replace(UPLINK, token_file="same")}, ["uplink.token_file"], []),
        ({"uplink": replace(UPLINK, ca_file="ca.pem")}, ["uplink.ca_file", "secrets of uplink"], ["uplink"]),
        ({"devices": Broker("mqtt://b")}, ["devices.url"], ["devices", "bus"]),
        ({"devices": Broker(receive_maximum=9)}, ["devices.receive_maximum"], ["devices", "bus"]),
        ({"bus": Broker()}, ["bus"], ["bus"]),
        ({"tasks": Tasks(allow=())}, ["tasks.allow"], ["bus"]),
        ({"classify": Classify(margin=0.1)}, ["classify.margin"], []),
        ({"cascade": Cascade(per_hour=9)}, ["cascade.per_hour"], []),
        ({"models": Models()}, ["models.public_key"], ["bus"]),
        ({"score": (Score(name="pumps"),)}, ["score"], ["bus"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_what_differs_is_named_and_only_its_connections_are_made_again(
    changes: dict[str, Any], changed: list[str], again: list[str]
) -> None:
    assert plan(CONFIG, replace(CONFIG, **changes), HELD, HELD) == Plan(changed, again, listen=False)  # type: ignore[arg-type]


def test_another_threshold_of_the_same_score_leaves_the_bus_alone() -> None:
    old, new = (replace(CONFIG, score=(Score(name="pumps", threshold=level),)) for level in (3.0, 4.0))
    assert plan(old, new, HELD, HELD) == Plan(["score"], [], listen=False)


def test_a_bus_of_its_own_is_not_concerned_by_the_devices_broker() -> None:
    old = replace(CONFIG, bus=Broker("mqtt://bus"))
    new = replace(old, devices=Broker("mqtt://b"))
    assert plan(old, new, HELD, HELD) == Plan(["devices.url"], ["devices"], listen=False)


def test_a_gateway_without_bus_and_cloud_makes_no_connection_to_them() -> None:
    old = replace(CONFIG, uplink=Uplink(), models=Models())
    new = replace(old, devices=Broker("mqtt://b"))
    assert plan(old, new, Secrets(), Secrets("word", "word")) == Plan(
        ["devices.url", "secrets of devices"], ["devices"], listen=False
    )


def test_another_address_is_listened_on() -> None:
    new = replace(CONFIG, http=Http("127.0.0.1:1"))
    assert plan(CONFIG, new, HELD, HELD) == Plan(["http.listen"], [], listen=True)


@pytest.mark.parametrize(
    ("held", "lines"),
    [
        (HELD._replace(devices="new", bus="new"), ["devices", "bus"]),
        (HELD._replace(uplink="new"), ["uplink"]),
        (HELD._replace(files={"ca.pem": "3", "other.pem": "2"}), ["devices", "bus"]),
        (HELD._replace(files={"ca.pem": "1", "other.pem": "3"}), ["uplink"]),
    ],
    ids=["password", "token", "the broker's authorities", "the cloud's"],
)
def test_a_secret_that_changed_in_its_file_makes_its_connection_again(held: Secrets, lines: list[str]) -> None:
    config = replace(CONFIG, devices=Broker(ca_file="ca.pem"), uplink=replace(UPLINK, ca_file="other.pem"))
    expected = Plan([f"secrets of {line}" for line in lines], lines, listen=False)  # type: ignore[arg-type]
    assert plan(config, config, HELD, held) == expected


@pytest.mark.parametrize(("key", "value"), [("name", "stable"), ("data", "elsewhere")])
def test_what_takes_a_restart_is_refused_with_what_stays(key: str, value: str) -> None:
    new = replace(CONFIG, **{key: value}, max_series=3)
    with pytest.raises(ConfigurationRefused) as refused:
        plan(CONFIG, new, HELD, HELD)
    assert (refused.value.key, refused.value.value) == (key, value)
    assert refused.value.expectation.startswith(f"{getattr(CONFIG, key)!r} until a restart: ")


def test_every_key_of_a_file_is_known_to_take_effect_somehow() -> None:
    assert sorted([*BY_RECORD, *AT_ONCE, *BY_RESTART]) == sorted(GatewayConfig.__struct_fields__)


def test_reloads_count_their_outcomes_and_a_refusal_stands_until_one_succeeds() -> None:
    reloads = Reloads(at=5)
    assert reloads.outcomes == {"applied": 0, "unchanged": 0, "refused": 0}
    reloads.refused("gateway.toml: window[0].size =\n'0s'")
    assert (reloads.refusal, reloads.at) == ("gateway.toml: window[0].size = '0s'", 5)
    reloads.refused("x" * 1000)
    assert reloads.refusal == "x" * MAX_REFUSAL
    reloads.succeeded(Plan([], [], listen=False), at=7, took=2)
    assert (reloads.refusal, reloads.at, reloads.took) == ("", 7, 2)
    reloads.succeeded(Plan(["window"], [], listen=False), at=9, took=1)
    assert reloads.outcomes == {"applied": 1, "unchanged": 1, "refused": 2}
