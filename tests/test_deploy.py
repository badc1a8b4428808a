"""What is deployed: units that systemd accepts, an image and its compose file, the broker's file, a page about it."""

from __future__ import annotations

import configparser
import http.server
import json
import re
import shlex
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cli.main import EX_CONFIG, run
from tests.fixtures_broker import _mosquitto, _running
from tests.test_readme import Block, blocks, check_exists, commands, completed

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
UNITS = ["fieldgate-gateway.service", "fieldgate-cloud.service"]

every_unit = pytest.mark.parametrize("name", UNITS)

# Units.

HARDENED = """
CapabilityBoundingSet= AmbientCapabilities= NoNewPrivileges=yes ProtectSystem=strict ProtectHome=yes PrivateTmp=yes
PrivateDevices=yes DevicePolicy=closed ProtectClock=yes ProtectHostname=yes ProtectKernelTunables=yes
ProtectKernelModules=yes ProtectKernelLogs=yes ProtectControlGroups=yes ProtectProc=invisible RestrictNamespaces=yes
RestrictRealtime=yes RestrictSUIDSGID=yes RemoveIPC=yes LockPersonality=yes MemoryDenyWriteExecute=yes
SystemCallArchitectures=native UMask=0077
"""


def unit(name: str) -> configparser.RawConfigParser:
    """A unit by section and key; of a key that comes several times, the last."""
    parser = configparser.RawConfigParser(strict=False, delimiters=("=",), interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # keys keep their case
    parser.read(DEPLOY / name)
    return parser


def seconds(text: str) -> float:
    number, suffix = re.fullmatch(r"(\d+)(min|)", text).groups()  # type: ignore[union-attr]
    return float(number) * (60 if suffix else 1)


@every_unit
def test_a_unit_is_watched_hardened_and_restarted_but_not_for_ever(name: str) -> None:
    parsed = unit(name)
    service = parsed["Service"]
    expected = dict(line.split("=", 1) for line in HARDENED.split())
    assert {key: service.get(key) for key in expected} == expected
    assert (service["Type"], service["Restart"]) == ("notify", "on-failure")
    assert service["RestartPreventExitStatus"] == str(EX_CONFIG)
    assert parsed["Unit"]["StartLimitBurst"] == "5"
    assert 5 * seconds(service["RestartSec"]) < seconds(parsed["Unit"]["StartLimitIntervalSec"])
    assert service["User"] == service["StateDirectory"] == name.removesuffix(".service").replace("-gateway", "")


@every_unit
def test_systemd_accepts_a_unit_and_finds_it_well_confined(name: str, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed (Debian: apt-get install systemd)")
    here = tmp_path / name
    here.write_text((DEPLOY / name).read_text().replace("/opt/fieldgate/bin/fieldgate", sys.executable))
    verified = subprocess.run(["systemd-analyze", "verify", here], capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stderr) == (0, "")
    scored = ["systemd-analyze", "security", "--offline=yes", "--threshold=20", "--no-pager", str(here)]  # 2.0 of 10
    confined = subprocess.run(scored, capture_output=True, text=True, check=False)
    assert confined.returncode == 0, confined.stdout


def test_a_reload_is_a_hangup_and_then_fails_on_a_file_that_is_refused() -> None:
    lines = [line.partition("=") for line in (DEPLOY / "fieldgate-gateway.service").read_text().splitlines()]
    start = next(value for key, _, value in lines if key == "ExecStart")
    reloads = [value for key, _, value in lines if key == "ExecReload"]
    assert reloads == ["/bin/kill -HUP $MAINPID", start.replace("gateway run", "gateway check")]


def test_a_gateway_reads_its_token_where_the_unit_puts_it() -> None:
    loaded = re.findall(r"^LoadCredential=(\w+):(\S+)$", (DEPLOY / UNITS[0]).read_text(), re.MULTILINE)
    assert loaded == [("token", "/etc/fieldgate/token"), ("password", "/etc/fieldgate/password")]
    assert [f"/run/credentials/{UNITS[0]}/{name}" in (DEPLOY.parent / "docs/operations.md").read_text()
            for name, _ in loaded] == [True, True]  # fmt: skip


# The pages for operators and users.

PAGES = {page.stem: blocks(page.read_text()) for page in sorted((ROOT / "docs").glob("*.md"))}
PAGE = PAGES["operations"]


def line_of(block: Block) -> str:
    return f"line {block.line}"


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(block, id=f"{name} line {block.line}")
        for name, page in PAGES.items()
        for block in page
        if block.language == "sh"
    ],
)
def test_the_pages_commands_are_shell_and_exist(block: Block) -> None:
    subprocess.run(["bash", "-n", "-c", block.content], check=True)
    for words in commands(block.content):
        said = words[3:] if words[:2] == ["sudo", "-u"] else words  # whose name is fieldgate too
        places = [at for at, word in enumerate(said) if word == "fieldgate" or word.endswith("/bin/fieldgate")]
        check_exists(said[places[0] :] if places else said)


@pytest.mark.parametrize("block", [block for block in PAGE if block.language == "toml"], ids=line_of)
def test_the_pages_configurations_are_good(block: Block, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    side, text = completed(block.content)
    (tmp_path / "printed.toml").write_text(text)
    assert run([side, "check", str(tmp_path / "printed.toml")]) == 0, capsys.readouterr().err


@pytest.mark.parametrize("script", sorted(DEPLOY.glob("*.sh")), ids=lambda script: script.name)
def test_a_script_is_shell(script: Path) -> None:
    subprocess.run(["bash", "-n", script], check=True)


# The image.


def instructions() -> list[tuple[str, str]]:
    """The Containerfile's instructions, continued lines joined."""
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Containerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines) if word]


def last(instruction: str) -> str:
    return [rest for word, rest in instructions() if word == instruction][-1]


def health_check() -> list[str]:
    words: list[str] = json.loads(last("HEALTHCHECK").partition("CMD ")[2])
    return words


def test_the_image_is_built_in_two_stages_from_a_pinned_base_and_runs_as_nobody() -> None:
    bases = [rest for word, rest in instructions() if word == "FROM"]
    assert bases == ["${BASE} AS build", "${BASE}"]
    assert re.fullmatch(r"BASE=[\w/-]+:3\.\d+-slim-\w+", last("ARG"))
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last("USER"))
    assert last("STOPSIGNAL") == "SIGTERM"
    words = [*json.loads(last("ENTRYPOINT")), *json.loads(last("CMD"))]  # no shell between the engine and us
    assert words[0] == "fieldgate"
    check_exists(words)


def test_the_image_is_built_from_all_that_the_wheel_holds() -> None:
    copied = [rest.split()[:-1] for word, rest in instructions() if word == "COPY" and not rest.startswith("--from")]
    names = {name for sources in copied for name in sources}
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert [name for name in names if not (ROOT / name).exists()] == []
    assert set(wheel["packages"]) < names


@pytest.mark.parametrize(("status", "well"), [(200, True), (503, False)], ids=["ready", "not ready"])
def test_the_health_check_asks_whether_it_is_ready(status: int, well: bool) -> None:
    program, *arguments = health_check()
    with answering(status) as url:
        done = subprocess.run(
            [sys.executable, *arguments], env={"FIELDGATE_READY": url}, capture_output=True, check=False
        )
    assert (program, done.returncode == 0) == ("python", well)


@contextmanager
def answering(status: int) -> Iterator[str]:
    """A server that gives every request the same status."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/readyz"
        finally:
            server.shutdown()
            thread.join()


# Compose.

COMPOSE = (DEPLOY / "compose.yaml").read_text()


def part(name: str, indent: int = 2) -> str:
    """What stands under a key of compose.yaml, up to the next key that is indented no more."""
    found = re.search(rf"^ {{{indent}}}{name}:.*\n((?: {{{indent + 1},}}.*\n|\n| *#.*\n)*)", COMPOSE, re.MULTILINE)
    assert found, name
    return found[1]


def test_every_service_is_confined_and_says_whether_it_is_well() -> None:
    confined = part("x-confined", 0)
    wanted = [
        "read_only: true",
        "cap_drop: [ALL]",
        'security_opt: ["no-new-privileges:true"]',
        "stop_grace_period: 30s",
    ]
    assert [line for line in wanted if line not in confined] == []
    assert "<<: *confined" in part("x-fieldgate", 0)
    inherited = {name: re.findall(r"<<: \*(\w+)", part(name)) for name in ("cloud", "mosquitto", "gateway")}
    assert inherited == {"cloud": ["fieldgate"], "mosquitto": ["confined"], "gateway": ["fieldgate"]}
    assert ["healthcheck:" in text for text in (part("x-fieldgate", 0), part("mosquitto"))] == [True, True]
    assert "profiles: [gateway]" in part("gateway")


def test_compose_asks_for_health_as_the_image_does() -> None:
    words = health_check()
    assert f'test: [CMD, {words[0]}, {words[1]}, "{words[2]}"]' in part("x-fieldgate", 0)


@pytest.mark.parametrize("side", ["cloud", "gateway"])
def test_a_service_runs_a_command_that_exists_on_a_configuration_that_is_good(
    side: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = re.search(r"command: \[(.*)\]", part(side))
    mounted = re.search(r"- \./(\S+):(/etc/\S+):ro", part(side))
    assert command
    assert mounted
    words = command[1].split(", ")
    check_exists(["fieldgate", *words])
    assert words == [side, "run", mounted[2]]
    assert run([side, "check", str(DEPLOY / mounted[1])]) == 0, capsys.readouterr().err


def test_no_port_is_open_beyond_this_machine_unless_the_operator_says_so() -> None:
    ports = re.findall(r'ports: \["([^"]+)"\]', COMPOSE)
    assert [port.rpartition(":")[0] for port in ports] == ["127.0.0.1:8480", "127.0.0.1:1883"]


# The broker's file.


def mosquitto_settings() -> dict[str, str]:
    lines = [line.partition("#")[0].split() for line in (DEPLOY / "mosquitto.conf").read_text().splitlines()]
    return {words[0]: " ".join(words[1:]) for words in lines if words}


def test_the_brokers_queue_outlasts_a_gateways_absence() -> None:
    settings = mosquitto_settings()
    sized = ["persistence", "autosave_interval", "max_queued_messages", "max_queued_bytes", "max_inflight_messages"]
    assert [settings[key] for key in sized] == ["true", "60", "0", str(256 << 20), "4000"]
    assert (settings["listener"], settings["allow_anonymous"]) == ("1883 127.0.0.1", "true")


@pytest.fixture
def broker(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[int]:
    """mosquitto with our file, as compose's own command changes it, and with a port and a place of the test's."""
    port, data = free_port(), tmp_path / "data"
    data.mkdir()
    script = re.search(r"(sed -e .*) >/tmp/mosquitto.conf", " ".join(part("mosquitto").split()))
    assert script
    changed = script[1].replace("/mosquitto/data/", f"{data}/").replace("#listener 1883#", f"#listener {port}#")
    words = shlex.split(changed.replace("/mosquitto/config/mosquitto.conf", str(DEPLOY / "mosquitto.conf")))
    text = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    (tmp_path / "mosquitto.conf").write_text(f"{text}\nuser root\nlog_dest stderr\n")
    with _running([_mosquitto(), "-c", str(tmp_path / "mosquitto.conf")], port):
        yield port
    assert (data / "mosquitto.db").stat().st_size


def test_the_broker_keeps_more_for_an_absent_gateway_than_stock_does(broker: int) -> None:
    if shutil.which("mosquitto_pub") is None:
        pytest.skip("mosquitto_pub is not installed (Debian: apt-get install mosquitto-clients)")
    known = ["-p", str(broker), "-q", "1", "-t", "readings"]
    listen = ["mosquitto_sub", *known, "-i", "gateway", "-c", "-V", "5", "-x", "600"]
    subprocess.run([*listen, "-E"], check=True)  # subscribes, and leaves
    readings = "".join(f"{number}\n" for number in range(3_000))
    subprocess.run(["mosquitto_pub", *known, "-l"], input=readings, text=True, check=True)
    kept = subprocess.run([*listen, "-C", "3000", "-W", "60"], capture_output=True, text=True, check=False)
    assert kept.stdout == readings
