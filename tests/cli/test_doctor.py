"""`fieldgate gateway doctor` against real brokers, a real cloud and real directories, good ones and bad ones."""

from __future__ import annotations

import asyncio
import errno
import json
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import mqtt5
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from cli.broker import EmbeddedBroker
from cli.doctor import examine as examining
from cli.doctor.examine import examine
from cli.doctor.facts import Disk, Session, Unknown
from cli.doctor.probe import disk
from cli.doctor.probe.broker import COUNT
from cli.doctor.probe.line import Account, Line
from cli.gateway import load
from cli.main import run
from cloud.api import Api
from cloud.app import API, create_app
from cloud.config import parse as parse_cloud
from gateway.segment import OsFiles
from tests.at_work import at_work
from tests.fake_broker import FakeBroker
from tests.faults.disk import FaultyFiles
from tests.waiting import DEADLINE_S, until

ROOT = Path(__file__).parents[2]
HOUR = 3600 * 10**9


def shipped() -> list[str]:
    """What deploy/mosquitto.conf says, but for where it listens and keeps its files: these are the test's."""
    lines = (ROOT / "deploy" / "mosquitto.conf").read_text().splitlines()
    return [line for line in lines if not line.startswith(("listener", "allow_anonymous", "persistence", "#"))]


def configuration(directory: Path, broker: str, *more: str, name: str = "barn") -> Path:
    path = directory / "gateway.toml"
    text = [
        f'name = "{name}"\ndata = "{directory}/data"',
        '[[source]]\ntopic = "s/{device}/{measurement}"\nformat = "number"',
        f'[devices]\nurl = "{broker}"',
        *more,
    ]
    path.write_text("\n".join(text))
    return path


async def doctor(path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, tuple[str, str]]]:
    """Run the command; give its exit code, and of each check the verdict and what was found."""
    code = await asyncio.to_thread(run, ["gateway", "doctor", str(path), "--json"])
    said: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert said["ok"] is (code == 0)
    assert sum(said["counts"].values()) == len(said["checks"])
    return code, {check["check"]: (check["verdict"], check["found"]) for check in said["checks"]}


@asynccontextmanager
async def cloud(directory: Path, *, ahead: int = 0) -> AsyncIterator[tuple[Api, str]]:
    """A cloud of its own, and its address."""
    app = create_app(parse_cloud(f'data = "{directory}/cloud"'), clock=lambda: time.time_ns() + ahead)
    async with TestServer(app) as server:
        yield app[API], str(server.make_url("/")).rstrip("/")


def uplink(directory: Path, url: str, token: str) -> str:
    path = directory / "token"
    path.write_text(token)
    return f'[uplink]\nurl = "{url}"\ntoken_file = "{path}"'


@pytest.fixture
async def nowhere(free_port: Callable[[], int]) -> str:
    return f"mqtt://127.0.0.1:{free_port()}"


async def test_a_site_in_order_is_found_in_order(
    mosquitto: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with cloud(tmp_path) as (api, url):
        key = api.tokens.signer().public.hex()
        more = [uplink(tmp_path, url, api.tokens.issue("barn")), f'[models]\npublic_key = "{key}"']
        code, said = await doctor(configuration(tmp_path, mosquitto(*shipped()), *more), capsys)
        assert (api.fleet.views(), await api.store.ledger(None)) == ([], [])
    machine = {"clock", "room", "file system", "fsync"}  # this one's: whatever they are
    assert {check: verdict for check, (verdict, _) in said.items() if check not in machine and verdict != "ok"} == {}
    assert (code, said["queue"][1]) == (0, f"it kept all {COUNT:,} messages for an absent client")
    assert said["session"][1] == "kept for 7 days, as asked; what was published meanwhile was delivered"
    assert said["bus"][1] == "granted: fieldgate/v1/barn/models/+, fieldgate/v1/barn/chunks"
    assert (said["token"][1], said["uplink"][1]) == ("accepted, as barn's", "a WebSocket opens")
    assert "broker 2." in said["versions"][1]
    assert not (tmp_path / "data").exists(), "looking makes nothing"


async def test_stock_mosquitto_is_found_to_lose_what_is_beyond_its_queue(
    mosquitto: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = await doctor(configuration(tmp_path, mosquitto()), capsys)
    assert (code, said["session"][0], said["drops"][0]) == (0, "ok", "ok")
    assert said["queue"] == ("warn", "of 1,100 messages for an absent client it kept 1,000; 100 are lost")


async def test_the_embedded_broker_keeps_sessions_and_says_nothing_of_itself(
    embedded_broker: EmbeddedBroker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = await doctor(configuration(tmp_path, embedded_broker.url), capsys)
    verdicts = [said[check][0] for check in ("broker", "session", "queue", "topics", "drops")]
    assert (code, verdicts) == (0, ["ok", "ok", "ok", "ok", "skip"])


async def test_a_broker_that_forgets_is_a_failure(
    mosquitto: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = configuration(tmp_path, mosquitto(), 'session_expiry = "0s"')
    code, said = await doctor(path, capsys)
    assert (code, said["session"]) == (1, ("fail", "it forgot a client that had gone"))
    assert said["queue"] == ("skip", "nothing was kept")


async def test_the_doctor_leaves_no_session_behind(mosquitto: Callable[..., str], tmp_path: Path) -> None:
    settings = load(configuration(tmp_path, mosquitto("max_queued_messages 30")))
    facts = await examine(settings, OsFiles())
    session = Session(7 * 86400, None, present=True, published=COUNT, refused=0, kept=30, window=30)
    assert getattr(facts.devices, "session", None) == session
    account = Account(settings.devices, "fieldgate-barn", None)
    for client in ("doctor", "doctor-says"):
        line = await Line.open(account, account.hello(client, clean=False))
        assert not line.greeting.session_present
        await line.close()


async def test_a_broker_that_is_away_is_said_so_and_the_rest_is_examined_all_the_same(
    nowhere: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with cloud(tmp_path) as (api, url):
        path = configuration(tmp_path, nowhere, uplink(tmp_path, url, api.tokens.issue("barn")))
        code, said = await doctor(path, capsys)
    assert (code, said["broker"][0]) == (1, "fail")
    assert nowhere in said["broker"][1]
    assert (said["session"][0], said["data"][0], said["token"][0]) == ("skip", "ok", "ok")


async def test_a_broker_of_mqtt_3_is_named_as_such(
    embedded_broker: EmbeddedBroker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, said = await doctor(configuration(tmp_path, embedded_broker.v4_url), capsys)
    assert said["broker"][1].endswith("it ends the connection instead of answering")


async def test_a_user_the_broker_does_not_know_is_a_failure(
    mosquitto: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, said = await doctor(configuration(tmp_path, mosquitto("allow_anonymous false")), capsys)
    assert said["broker"][1].endswith("it refuses the connection: not authorized")


async def test_a_password_that_cannot_be_read_is_a_failure_of_ours(
    nowhere: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = configuration(tmp_path, nowhere, 'username = "barn"\npassword_file = "/nowhere/password"')
    code, said = await doctor(path, capsys)
    assert (code, "/nowhere/password" in said["broker"][1]) == (1, True)


async def test_a_user_who_may_not_write_the_doctors_topic_is_told_of(
    mosquitto: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rights = tmp_path / "acl"
    rights.write_text("topic read s/#\n")
    rights.chmod(0o644)
    code, said = await doctor(configuration(tmp_path, mosquitto(f"acl_file {rights}")), capsys)
    assert (code, said["session"][0]) == (0, "skip")
    assert said["session"][1].startswith("not tried: this user may not write fieldgate/v1/barn/doctor/")


async def test_what_the_broker_grants_is_read_from_its_answers(fake_broker: FakeBroker, tmp_path: Path) -> None:
    settings = load(configuration(tmp_path, fake_broker.url))
    task = asyncio.create_task(examine(settings, OsFiles()))
    answer = mqtt5.ConnAckPacket(max_qos=mqtt5.QoS.AT_MOST_ONCE, max_packet_size=9000, retain_available=False)
    first = await fake_broker.accept()
    hello = await first.greet(answer, codes=[0x87])
    asked = (hello.client_id, hello.clean_start, hello.session_expiry_interval)
    second = await fake_broker.accept()
    await second.greet(codes=[0x87, 0x87])
    facts = await task
    assert asked == ("fieldgate-barn-doctor", True, 0)
    devices: Any = facts.devices
    assert (devices.greeting.max_qos, devices.greeting.max_packet, devices.greeting.retain) == (0, 9000, False)
    assert [(grant.topic, grant.code, grant.said) for grant in devices.grants] == [("s/+/+", 135, "not authorized")]
    assert devices.session == Unknown("it takes QoS 0 only, which no session keeps")


@pytest.mark.parametrize("deaf", ["broker", "cloud", "disk"])
async def test_what_never_answers_costs_its_deadline_and_no_more(
    deaf: str, nowhere: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold = threading.Event()

    class Stuck(OsFiles):
        def sync(self, descriptor: int) -> None:
            assert hold.wait(DEADLINE_S), "somebody forgot us"
            super().sync(descriptor)

    def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stack.callback(writer.transport.abort)

    deadline = {"broker": "DEVICES_WITHIN_S", "cloud": "CLOUD_WITHIN_S", "disk": "DISK_WITHIN_S"}[deaf]
    monkeypatch.setattr(examining, deadline, 0.2)
    async with AsyncExitStack() as stack:
        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        stack.callback(server.close)
        port = server.sockets[0].getsockname()[1]
        broker = f"mqtt://127.0.0.1:{port}" if deaf == "broker" else nowhere
        more = [uplink(tmp_path, f"http://127.0.0.1:{port}", "t")] if deaf == "cloud" else []
        settings = load(configuration(tmp_path, broker, *more))
        facts = await examine(settings, Stuck() if deaf == "disk" else OsFiles())
        hold.set()
    silent = {"broker": facts.devices, "cloud": facts.cloud, "disk": facts.disk}[deaf]
    assert silent == Unknown("no end within 0.2 s")
    assert deaf == "disk" or isinstance(facts.disk, Disk)


async def test_a_running_gateway_keeps_its_session_its_lock_and_its_connection_to_the_cloud(
    mosquitto: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with cloud(tmp_path) as (api, url):
        path = configuration(tmp_path, mosquitto(*shipped()), uplink(tmp_path, url, api.tokens.issue("barn")))
        async with at_work(load(path)) as running:
            await until(lambda: running.vitals().cloud_connected and not running.vitals().lacking, "connected")
            assert running.inward.intake is not None
            before = (running.inward.intake.counters.connections, running.inward.intake.counters.sessions_lost)
            code, said = await doctor(path, capsys)
            assert (code, said["lock"][1]) == (0, "a gateway runs on this data directory")
            assert (
                (running.inward.intake.counters.connections, running.inward.intake.counters.sessions_lost)
                == before
                == (1, 0)
            )
            assert (running.inward.intake.connected, running.vitals().cloud_connected) == (True, True)
            assert [(view.name, view.online) for view in api.fleet.views()] == [("barn", True)]
        code, said = await doctor(path, capsys)
    assert (code, said["lock"][1]) == (0, "no gateway runs on this directory")


@pytest.mark.parametrize(
    ("token", "found"),
    [
        ("wrong", "the cloud does not know this token"),
        ("shed", "it is the token of shed, and this gateway is barn"),
    ],
)
async def test_a_token_that_is_not_this_gateways_is_a_failure(
    token: str, found: str, nowhere: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with cloud(tmp_path) as (api, url):
        given = api.tokens.issue("shed") if token == "shed" else token
        code, said = await doctor(configuration(tmp_path, nowhere, uplink(tmp_path, url, given)), capsys)
    assert (code, said["cloud"][0], said["token"]) == (1, "ok", ("fail", found))


async def test_a_cloud_whose_clock_is_elsewhere_is_said_so(
    nowhere: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with cloud(tmp_path, ahead=HOUR) as (api, url):
        path = configuration(tmp_path, nowhere, uplink(tmp_path, url, api.tokens.issue("barn")))
        _, said = await doctor(path, capsys)
    assert said["cloud clock"] == ("warn", "ours is 60 min behind the cloud's")


async def test_a_proxy_that_lets_no_websocket_pass_is_a_failure(
    nowhere: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def whoami(_: web.Request) -> web.Response:
        return web.json_response({"gateway": "barn", "version": "9.0", "now": time.time_ns()})

    async def refuse(_: web.Request) -> web.Response:
        return web.Response(status=400)

    app = web.Application()
    app.add_routes([web.get("/v1/whoami", whoami), web.get("/v1/uplink", refuse)])
    async with TestServer(app) as server:
        path = configuration(tmp_path, nowhere, uplink(tmp_path, str(server.make_url("/")), "t"))
        code, said = await doctor(path, capsys)
    assert (code, said["uplink"]) == (1, ("fail", "it answers 400 where a WebSocket should open"))
    assert said["versions"][0] == "warn"


async def test_a_server_that_is_no_cloud_of_ours_is_a_failure_and_its_time_is_read(
    nowhere: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with TestServer(web.Application()) as server:
        path = configuration(tmp_path, nowhere, uplink(tmp_path, str(server.make_url("/")), "t"))
        _, said = await doctor(path, capsys)
    assert (said["cloud"][0], said["token"][0], said["cloud clock"][0]) == ("fail", "skip", "ok")


async def test_a_cloud_that_is_away_and_a_token_that_is_absent_are_told_apart(
    nowhere: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = nowhere.replace("mqtt", "http")
    _, said = await doctor(configuration(tmp_path, nowhere, uplink(tmp_path, url, "t")), capsys)
    assert (said["cloud"][0], said["token"]) == ("fail", ("skip", "the cloud cannot be reached"))
    (tmp_path / "token").unlink()
    _, said = await doctor(tmp_path / "gateway.toml", capsys)
    assert (said["cloud"][0], said["token"][0]) == ("skip", "fail")


@pytest.mark.parametrize(
    ("faults", "trouble"),
    [
        ({("create", 1): errno.EROFS}, "Read-only file system"),
        ({("write", 1): errno.ENOSPC}, "No space left on device"),
        ({("sync", 7): errno.EIO}, "Input/output error"),
    ],
    ids=["read-only", "full", "broken"],
)
def test_a_disk_that_refuses_is_told_in_its_words_and_nothing_is_left_there(
    faults: dict[tuple[str, int], int], trouble: str, tmp_path: Path
) -> None:
    found = disk.look(FaultyFiles(faults=faults), tmp_path)
    assert (found.trouble, list(tmp_path.iterdir())) == (trouble, [])
    assert len(found.syncs) == (6 if ("sync", 7) in faults else 0)


def test_the_disk_is_measured_where_the_data_are_or_will_be(tmp_path: Path) -> None:
    there = disk.look(OsFiles(), tmp_path / "a" / "data")
    assert (there.place, there.exists, there.trouble, len(there.syncs)) == (str(tmp_path), False, "", disk.APPENDS)
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / "1.seg").write_bytes(bytes(1000))
    (tmp_path / "spool.json").write_bytes(bytes(24))
    here = disk.look(OsFiles(), tmp_path)
    assert (here.place, here.exists, here.used, here.running) == (str(tmp_path), True, 1024, False)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/fieldgate", "ext4"),
        ("/run/x", "tmpfs"),
        ("/mnt/my card/data", "vfat"),
        ("/runner", "ext4"),
        ("/data", "xfs"),
    ],
    ids=["the root", "below a mount", "a name with a space", "a name that only begins so", "the mount over another"],
)
def test_the_file_system_is_that_of_the_nearest_mount(path: str, kind: str) -> None:
    mounts = [
        "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw",
        "23 22 0:21 / /run rw - tmpfs tmpfs rw,size=1k",
        "24 22 8:2 / /mnt/my\\040card rw master:3 propagate_from:2 - vfat /dev/sdb1 rw",
        "25 22 8:3 / /data rw - ext3 /dev/sdc1 rw",
        "26 25 8:4 / /data rw - xfs /dev/sdc2 rw",
        "nonsense",
    ]
    assert (disk.kind_of(Path(path), mounts), disk.kind_of(Path(path), [])) == (kind, "")


def test_a_refused_configuration_ends_with_78_and_says_no_object(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text('name = "barn"\n')
    assert run(["gateway", "doctor", str(path), "--json"]) == 78
    assert capsys.readouterr().out == ""


async def test_for_a_person_it_is_a_line_a_check_and_the_remedy_below(
    nowhere: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = configuration(tmp_path, nowhere)
    assert await asyncio.to_thread(run, ["gateway", "doctor", str(path)]) == 1
    said = capsys.readouterr().out
    lines = said.splitlines()
    assert lines[0] == f"ok    configuration  barn: 1 source, 1 window definition; data in {tmp_path}/data"
    at = next(number for number, line in enumerate(lines) if line.startswith("fail  broker         "))
    assert lines[at + 1] == f"{'':<21}do: start the broker, or set devices.url to where it listens"
    assert lines[-2:] == ["", lines[-1]]
    assert lines[-1].endswith("1 fail, 12 skip")
    assert "\x1b" not in said
