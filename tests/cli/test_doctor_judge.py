"""What was measured, and what the doctor says of it: a table."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cli.doctor.facts import Broker, Cloud, Disk, Facts, Grant, Greeting, Host, Refused, Session, Spoken, Unknown
from cli.doctor.judge import Finding, judge
from cli.doctor.judge.finding import size, span
from gateway.config import parse

GIB = 1 << 30
DAY = 86_400
NOW = 1_790_000_000 * 10**9

WHOLE = """
name = "barn"
data = "/var/lib/fieldgate"
[[source]]
topic = "sensors/{device}/{measurement}"
[[score]]
[uplink]
url = "https://cloud.example"
token_file = "/etc/fieldgate/token"
[models]
public_key = "e43a7ece3a362be44a9eadddd66fc927b8d592c22060595b5b2d2e20cbd22be9"
"""
ALONE = """
name = "barn"
data = "/var/lib/fieldgate"
[[source]]
topic = "sensors/{device}/{measurement}"
"""

GREETING = Greeting(20, None, 2, retain=True, wildcards=True)
SESSION = Session(7 * DAY, None, present=True, published=1_100, refused=0, kept=1_100, window=1_100)
DISK = Disk("/var/lib/fieldgate", True, "", 100 * GIB, GIB, "ext4", (0.002,) * 49 + (0.004,), False)
HOST = Host("fieldgate", "0.1.0", (3, 11, 7), NOW, True)
CLOUD = Cloud("", status=200, gateway="barn", version="0.1.3", ahead=0.25, precision=0.05)
DEVICES = Broker(GREETING, [Grant("sensors/+/+", 1, 1, "granted")], Spoken("2.0.11", 0), SESSION)
BUS = [Grant("fieldgate/v1/barn/models/+", 1, 1, "granted"), Grant("fieldgate/v1/barn/chunks", 1, 1, "granted")]
GOOD = Facts(HOST, DISK, DEVICES, BUS, CLOUD)

CHECKS = [
    *("configuration", "versions", "clock", "data", "room", "file system", "fsync", "lock"),
    *("broker", "limits", "session", "queue", "window", "drops", "topics", "bus"),
    *("cloud", "token", "uplink", "cloud clock", "models"),
]


def judged(facts: Facts, text: str = WHOLE) -> dict[str, Finding]:
    findings = judge(facts, parse(text))
    assert [finding.check for finding in findings] == CHECKS, "every check gives one finding, always"
    undone = [finding.check for finding in findings if (finding.verdict in ("warn", "fail")) != bool(finding.do)]
    assert undone == [], "what is wrong has a remedy, what is not wrong has none"
    return {finding.check: finding for finding in findings}


def test_where_all_is_well_everything_is_said_and_nothing_is_to_be_done() -> None:
    assert [tuple(finding) for finding in judged(GOOD).values()] == [
        ("configuration", "ok", "barn: 1 source, 1 window definition, 1 detector; data in /var/lib/fieldgate", ""),
        ("versions", "ok", "fieldgate 0.1.0, Python 3.11.7, cloud 0.1.3, broker 2.0.11", ""),
        ("clock", "ok", "synchronised; it says 2026-09-21 14:13:20 UTC", ""),
        ("data", "ok", "/var/lib/fieldgate can be written", ""),
        ("room", "ok", "100.0 GiB free; journal and spool have 1.0 GiB and may take 2.5 GiB more", ""),
        ("file system", "ok", "ext4", ""),
        ("fsync", "ok", "median 2 ms, p99 4 ms of 50 appends of 4 KiB", ""),
        ("lock", "ok", "no gateway runs on this directory", ""),
        ("broker", "ok", "mqtt://127.0.0.1:1883 speaks MQTT 5 and lets us in", ""),
        ("limits", "ok", "QoS 2, packets of any size, 20 in flight from a client", ""),
        ("session", "ok", "kept for 7 days, as asked; what was published meanwhile was delivered", ""),
        ("queue", "ok", "it kept all 1,100 messages for an absent client", ""),
        ("window", "ok", "it sends 1,100 messages or more before the first is acknowledged", ""),
        ("drops", "ok", "none since the broker started", ""),
        ("topics", "ok", "granted: sensors/+/+", ""),
        ("bus", "ok", "granted: fieldgate/v1/barn/models/+, fieldgate/v1/barn/chunks", ""),
        ("cloud", "ok", "https://cloud.example answers", ""),
        ("token", "ok", "accepted, as barn's", ""),
        ("uplink", "ok", "a WebSocket opens", ""),
        ("cloud clock", "ok", "ours and the cloud's are within 250 ms", ""),
        ("models", "ok", "the cloud's key is pinned: e43a7ece3a362be4...", ""),
    ]


def of(**changes: Any) -> Facts:
    """The good facts with some changed, wherever the name is; `version` is this machine's."""
    parts: dict[str, Any] = {"greeting": GREETING, "session": SESSION, "disk": DISK, "host": HOST, "cloud": CLOUD}
    for part, value in parts.items():
        names = type(value).__dataclass_fields__
        own = {name: changes.pop(name) for name in list(changes) if name in names and name != part}
        parts[part] = replace(value, **own)
    top = {name: changes.pop(name) for name in ("disk", "devices", "bus", "cloud") if name in changes}
    devices = replace(DEVICES, greeting=parts["greeting"], **{"session": parts["session"], **changes})
    return Facts(
        **{"host": parts["host"], "disk": parts["disk"], "devices": devices, "bus": BUS, "cloud": parts["cloud"]} | top
    )


@pytest.mark.parametrize(
    ("facts", "check", "verdict", "found", "do"),
    [
        pytest.param(of(python=(3, 10, 2)), "versions", "warn", "Python 3.10.2", "Python 3.11", id="an old Python"),
        pytest.param(of(version="0.2.0"), "versions", "warn", "0.2.0", "upgrade the older side", id="minor versions"),
        pytest.param(
            of(wall=10**9),
            "clock",
            "fail",
            "it says 1970-01-01 00:00:01 UTC: it was never set",
            "timedatectl",
            id="1970",
        ),
        pytest.param(of(synchronised=False), "clock", "warn", "nothing keeps it right", "timedatectl", id="drifting"),
        pytest.param(
            of(devices=Refused("tls", "certificate verify failed: certificate is not yet valid")),
            "broker",
            "fail",
            "not yet valid",
            "this machine's clock is the likely cause: let systemd-timesyncd",
            id="a broker of tomorrow",
        ),
        pytest.param(
            of(cloud=Cloud("tls", "certificate verify failed: certificate is not yet valid")),
            "cloud",
            "fail",
            "not yet valid",
            "this machine's clock is the likely cause: let systemd-timesyncd",
            id="a cloud of tomorrow",
        ),
        pytest.param(of(synchronised=None), "clock", "ok", "the kernel does not tell", "", id="a silent kernel"),
        pytest.param(
            of(trouble="Permission denied"),
            "data",
            "fail",
            "/var/lib/fieldgate: Permission denied",
            "make /var/lib/fieldgate writable",
            id="read-only",
        ),
        pytest.param(
            of(exists=False, place="/var/lib"), "data", "ok", "can be made in /var/lib", "", id="a first start"
        ),
        pytest.param(
            of(free=2 * GIB), "room", "warn", "2.0 GiB free", "lower journal.max_bytes", id="less room than bounds"
        ),
        pytest.param(
            of(free=2 * GIB, used=3 * GIB), "room", "ok", "may take 512 MiB more", "", id="most of it used already"
        ),
        pytest.param(of(free=10 << 20), "room", "fail", "10 MiB free", "lower journal.max_bytes", id="full"),
        pytest.param(of(free=Unknown("Input/output error")), "room", "skip", "Input/output error", "", id="no statvfs"),
        pytest.param(of(kind="tmpfs"), "file system", "warn", "tmpfs: memory", "put `data` on a disk", id="memory"),
        pytest.param(of(kind="overlay"), "file system", "warn", "a container's own layer", "a volume", id="no volume"),
        pytest.param(of(kind="nfs4"), "file system", "warn", "nfs4: a network", "a local ext4", id="a network"),
        pytest.param(of(kind="vfat"), "file system", "warn", "vfat: a file system without a journal", "ext4", id="FAT"),
        pytest.param(of(kind=""), "file system", "skip", "does not say", "", id="no mountinfo"),
        pytest.param(
            of(syncs=(0.01,) * 48 + (0.06, 0.07)),
            "fsync",
            "warn",
            "median 10 ms, p99 70 ms",
            "commit_interval",
            id="a slow card",
        ),
        pytest.param(of(syncs=(0.01,) * 49 + (0.05,)), "fsync", "ok", "p99 50 ms", "", id="just fast enough"),
        pytest.param(of(syncs=()), "fsync", "skip", "nothing could be written", "", id="no fsync"),
        pytest.param(of(running=True), "lock", "ok", "a gateway runs on this data directory", "", id="running"),
        pytest.param(
            of(running=Unknown("lock: Permission denied")), "lock", "skip", "Permission denied", "", id="another's lock"
        ),
        pytest.param(of(wildcards=False), "limits", "fail", "no wildcards", "allow wildcard", id="no wildcards"),
        pytest.param(of(max_qos=0), "limits", "fail", "QoS 0", "max_qos to 1", id="QoS 0 only"),
        pytest.param(of(retain=False), "limits", "warn", "keeps no messages", "retained", id="no retained messages"),
        pytest.param(of(max_packet=4096), "limits", "warn", "packets of up to 4 KiB", "64 KiB", id="small packets"),
        pytest.param(of(max_packet=1 << 20), "limits", "ok", "packets of up to 1 MiB", "", id="large packets"),
        pytest.param(of(present=False), "session", "fail", "it forgot a client", "session expiry", id="forgotten"),
        pytest.param(of(expiry=0), "session", "fail", "it forgot a client", "session expiry", id="no expiry granted"),
        pytest.param(
            of(kept=0, window=0),
            "session",
            "fail",
            "nothing that was published meanwhile",
            "fieldgate/v1",
            id="not delivered",
        ),
        pytest.param(of(expiry=3600), "session", "warn", "kept for 60 min only", "allow 7 days", id="a shorter expiry"),
        pytest.param(of(expiry=7 * DAY), "session", "ok", "as asked", "", id="the expiry asked for"),
        pytest.param(
            of(kept=1_000),
            "queue",
            "warn",
            "of 1,100 messages for an absent client it kept 1,000; 100 are lost",
            "deploy/mosquitto.conf",
            id="stock mosquitto",
        ),
        pytest.param(
            of(published=900, refused=200, kept=900),
            "queue",
            "ok",
            "refused more, so devices know",
            "",
            id="an honest bound",
        ),
        pytest.param(of(kept=0, window=0), "queue", "skip", "nothing was kept", "", id="no queue"),
        pytest.param(
            of(window=20),
            "window",
            "warn",
            "20 messages before the first is acknowledged: with this disk about 5,000 messages/s",
            "max_inflight_messages",
            id="a narrow window",
        ),
        pytest.param(
            of(window=200, syncs=(0.02,) * 50),
            "window",
            "ok",
            "about 5,000 messages/s",
            "",
            id="a wider window, a slow disk",
        ),
        pytest.param(
            of(window=20, syncs=()),
            "window",
            "warn",
            "20 messages before the first is acknowledged",
            "max_inflight",
            id="a window and no disk",
        ),
        pytest.param(
            of(spoken=Spoken("2.0.11", 1234)),
            "drops",
            "warn",
            "1,234 messages since the broker started, of this or other clients",
            "deploy/mosquitto.conf",
            id="drops",
        ),
        pytest.param(
            of(spoken=Spoken("2.0.11", 100), kept=1_000),
            "drops",
            "warn",
            "each run of the doctor adds 100",
            "deploy/mosquitto.conf",
            id="drops of our own",
        ),
        pytest.param(of(spoken=Spoken()), "drops", "skip", "does not tell", "", id="no $SYS"),
        pytest.param(
            of(spoken=Unknown("it ends the connection")), "drops", "skip", "it ends the connection", "", id="rumqttd"
        ),
        pytest.param(
            of(grants=[Grant("a/+", 1, 1, "granted"), Grant("b/+", 1, 135, "not authorized")]),
            "topics",
            "fail",
            "b/+ is refused (not authorized)",
            "[[source]]",
            id="a refused topic",
        ),
        pytest.param(
            of(grants=[Grant("a/+", 1, 0, "granted")]),
            "topics",
            "warn",
            "a/+ at QoS 0 only",
            "allow QoS 1",
            id="a lesser grant",
        ),
        pytest.param(of(grants=Unknown("it did not answer")), "topics", "skip", "it did not answer", "", id="no grant"),
        pytest.param(of(bus=None), "bus", "skip", "neither [bus] nor", "", id="no bus"),
        pytest.param(
            of(bus=Refused("user", "not authorized")),
            "bus",
            "fail",
            "not authorized",
            "devices.username",
            id="a bus that refuses",
        ),
        pytest.param(
            of(bus=[Grant("fieldgate/v1/barn/chunks", 1, 135, "not authorized")]),
            "bus",
            "fail",
            "chunks is refused",
            "fieldgate/v1/barn/models/+",
            id="a bus that does not let us listen",
        ),
        pytest.param(
            of(status=401, gateway="", version=""),
            "token",
            "fail",
            "does not know this token",
            "gateways add barn",
            id="a wrong token",
        ),
        pytest.param(
            of(status=403, gateway="", version=""), "token", "fail", "forbids", "gateways add barn", id="forbidden"
        ),
        pytest.param(
            of(gateway="shed"),
            "token",
            "fail",
            "it is the token of shed, and this gateway is barn",
            "gateways add barn",
            id="another's token",
        ),
        pytest.param(of(status=503, gateway=""), "cloud", "warn", "answers 503", "/readyz", id="a busy cloud"),
        pytest.param(
            of(status=404, gateway=""),
            "cloud",
            "fail",
            "answers 404",
            "the address of a Fieldgate cloud",
            id="no cloud of ours",
        ),
        pytest.param(
            of(status=200, gateway=""),
            "cloud",
            "fail",
            "answers 200",
            "the address of a Fieldgate cloud",
            id="somebody's page",
        ),
        pytest.param(
            of(upgrade="it answers 400 where a WebSocket should open"),
            "uplink",
            "fail",
            "it answers 400",
            "Upgrade and Connection",
            id="a proxy",
        ),
        pytest.param(of(status=401, gateway=""), "uplink", "skip", "not tried", "", id="no WebSocket without a token"),
        pytest.param(
            of(ahead=-90.0), "cloud clock", "warn", "ours is 90 s behind the cloud's", "timedatectl", id="we are slow"
        ),
        pytest.param(
            of(ahead=7201.0), "cloud clock", "warn", "ours is 2 h ahead of the cloud's", "timedatectl", id="we are fast"
        ),
        pytest.param(of(ahead=2.5, precision=1.0), "cloud clock", "ok", "within 2.5 s", "", id="cannot be told apart"),
        pytest.param(of(ahead=None), "cloud clock", "skip", "did not say", "", id="a cloud without a clock"),
    ],
)
def test_what_is_wrong_is_said_with_its_remedy(facts: Facts, check: str, verdict: str, found: str, do: str) -> None:
    finding = judged(facts)[check]
    assert (finding.verdict, found in finding.found, do in finding.do) == (verdict, True, True), finding
    assert bool(finding.do) == bool(do)


@pytest.mark.parametrize(
    ("refused", "do"),
    [
        (Refused("name", "nowhere: Name or service not known"), "is the host in devices.url spelt right"),
        (Refused("address", "Connection refused"), "start the broker, or set devices.url"),
        (Refused("silent", "does not answer"), "a firewall"),
        (Refused("tls", "certificate verify failed"), "devices.ca_file"),
        (Refused("speech", "it ends the connection"), "must speak MQTT 5"),
        (Refused("user", "not authorized"), "devices.username"),
        (Refused("client", "client id not valid"), "let client ids in"),
        (Refused("answer", "server busy"), "the broker's log"),
        (Refused("secret", "password_file"), "readable"),
        (Unknown("no end within 60 s"), "a firewall"),
    ],
    ids=lambda value: getattr(value, "cause", "deadline") if not isinstance(value, str) else "",
)
def test_a_broker_that_does_not_let_us_in_is_one_failure_and_the_rest_is_skipped(
    refused: Refused | Unknown, do: str
) -> None:
    said = judged(of(devices=refused))
    assert (said["broker"].verdict, said["broker"].found) == ("fail", f"mqtt://127.0.0.1:1883: {refused.why}")
    assert do in said["broker"].do
    skipped = ("limits", "session", "queue", "window", "drops", "topics")
    assert {said[check][1:3] for check in skipped} == {("skip", "the broker does not let us in")}


@pytest.mark.parametrize(
    ("cloud", "check", "skipped"),
    [
        (Cloud("away", "Connection refused"), "cloud", "the cloud cannot be reached"),
        (Cloud("tls", "certificate verify failed"), "cloud", "the cloud cannot be reached"),
        (Cloud("silent", "no answer within 10 s"), "cloud", "the cloud cannot be reached"),
        (Cloud("secret", "uplink.token_file"), "token", "not asked without a token"),
        (Unknown("no end within 30 s"), "cloud", "the cloud did not answer in time"),
    ],
    ids=["away", "tls", "silent", "token file", "deadline"],
)
def test_a_cloud_that_cannot_be_asked_is_one_failure_and_the_rest_is_skipped(
    cloud: Cloud | Unknown, check: str, skipped: str
) -> None:
    said = judged(of(cloud=cloud))
    assert said[check].verdict == "fail"
    assert cloud.why in said[check].found
    others = {"cloud", "token", "uplink", "cloud clock"} - {check}
    assert {said[other][1] for other in others} == {"skip"}
    assert said["uplink"].found == skipped


def test_a_disk_that_does_not_answer_is_one_failure() -> None:
    said = judged(of(disk=Unknown("no end within 20 s")))
    assert said["data"][1:3] == ("fail", "no end within 20 s")
    assert {said[check].verdict for check in ("room", "file system", "fsync", "lock")} == {"skip"}


def test_a_session_that_could_not_be_tried_is_skipped_with_the_reason() -> None:
    said = judged(of(session=Unknown("not tried: this user may not write x")))
    tried = {said[check][1:3] for check in ("session", "queue", "window")}
    assert tried == {("skip", "not tried: this user may not write x")}


def test_a_gateway_that_works_alone_needs_no_cloud() -> None:
    said = judged(of(cloud=None, bus=None), ALONE)
    assert {said[check].verdict for check in ("cloud", "token", "uplink", "cloud clock", "models", "bus")} == {"skip"}
    assert said["versions"].found == "fieldgate 0.1.0, Python 3.11.7, broker 2.0.11"


def test_a_detector_without_a_pinned_key_takes_no_models() -> None:
    text = WHOLE.partition("[models]")[0]
    assert judged(GOOD, text)["models"].verdict == "warn"


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (4096, "4 KiB"),
        (10 << 20, "10 MiB"),
        (2500 << 20, "2.4 GiB"),
        (5 << 40, "5,120.0 GiB"),
    ],
)
def test_sizes_read_like_sizes(number: int, text: str) -> None:
    assert size(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.00029, "0.29 ms"),
        (0.05, "50 ms"),
        (1.5, "1.5 s"),
        (90, "90 s"),
        (0.9996, "1000 ms"),
        (7200, "2 h"),
        (7 * DAY, "7 days"),
    ],
)
def test_durations_read_like_durations(seconds: float, text: str) -> None:
    assert span(seconds) == text
