"""The floors of the house, proven by reading imports: they only go down, and what decides does no I/O."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("protocol", "learning", "gateway", "cloud", "cli")

# A unit is a module, or a package taken as one. Imports go to a lower floor, or stay on theirs without going round.
# A module of gateway or cloud that is not named here is a shell: nothing pure may import it.
FLOORS = {
    "errors": "protocol.errors",
    "protocol, pure": """
        protocol protocol.columns protocol.frame protocol.identity protocol.manifest protocol.messages
        protocol.settings protocol.topics protocol.endpoints protocol.certificates protocol.tasks
        protocol.training protocol.jobs protocol.cascade
    """,
    "learning": "learning",
    "pure": """
        gateway gateway.records gateway.config gateway.decode gateway.clean gateway.window gateway.score gateway.pack
        gateway.delivery gateway.gather gateway.commit gateway.swap gateway.alerts gateway.reload gateway.tasks
        gateway.trainer gateway.budget gateway.domains gateway.classify gateway.bursts
        cloud cloud.config cloud.fleet cloud.firstrun cloud.ledger cloud.routes cloud.store cloud.unpack
        cloud.placement cloud.jobs cloud.federation cloud.registry cloud.brought
    """,
    "derive": "gateway.derive",
    "bus, segment": "protocol.bus gateway.segment gateway.journal gateway.spool",
    "shells": "protocol.mqtt protocol.notify cloud.store.sqlite cloud.store.postgres",
    "wiring": "gateway.pipeline cloud.app",
    "cli": "cli",
}
NAMES = list(FLOORS)
FLOOR = {unit: number for number, units in enumerate(FLOORS.values()) for unit in units.split()}
DEFAULT = {"learning": NAMES.index("learning"), "cli": NAMES.index("cli")}  # elsewhere: shells

PROTOCOL = {
    "errors",
    "messages",
    "manifest",
    "frame",
    "columns",
    "topics",
    "identity",
    "settings",
    "endpoints",
    "certificates",
    "tasks",
    "training",
    "jobs",
    "cascade",
    "bus",
    "mqtt",
    "notify",
}
STAGES = {
    *("gateway.intake", "gateway.decode", "gateway.journal", "gateway.clean", "gateway.window", "gateway.score"),
    *("gateway.pack", "gateway.spool", "gateway.delivery", "gateway.uplink"),
}
STAGE_IMPORTS_ALLOWED = {("gateway.uplink", "gateway.delivery")}  # the shell carries out what the machine decides

HOMES = {  # library: the units, or rooms, that may know it
    "mqtt5": "gateway.intake cli",  # in cli as the simulator's devices and the listener, never the gateway's intake
    "aiomqtt": "protocol.mqtt",
    "paho": "protocol.mqtt",
    "aiohttp": "gateway.uplink cloud.ingest cloud.api cloud.app cloud.live",
    "sqlite3": "cloud.store.sqlite",
    "asyncpg": "cloud.store.postgres",
    "distributed": "cloud.compute",
    "dask": "cloud.compute",
    "cryptography": "protocol.identity",
    "msgpack": "protocol.frame protocol.columns",
    "lz4": "protocol.frame protocol.columns",
    "fcntl": "gateway.segment",
    "prometheus_client": "gateway.metrics cloud.metrics",
    "onnxruntime": "learning.onnx",
    "click": "cli",
    "iotcore": "cli",
    "pickle": "",  # models are data
    "marshal": "",
    "shelve": "",
}

IMPURE = {
    *("os", "pathlib", "glob", "shutil", "tempfile", "io", "fcntl", "sqlite3", "sys"),
    *("time", "sched", "signal", "threading", "multiprocessing", "concurrent", "subprocess", "asyncio"),
    *("random", "secrets", "uuid"),
    *("socket", "socketserver", "ssl", "select", "selectors", "http", "urllib.request", "ftplib"),
    *("logging", "aiohttp", "aiomqtt", "mqtt5", "iotcore"),
}
IMPURE_CALLS = {"open", "print", "input", "exec", "eval", "breakpoint"}
IMPURE_ATTRIBUTES = {"now", "today", "utcnow"}  # of datetime and date

HEAVY = {"numpy", "aiohttp", "aiomqtt", "mqtt5", "lz4", "cryptography", "iotcore", "sqlite3"}
LATER = {"aiohttp", "aiomqtt", "prometheus_client"}
WITHOUT = {  # what is loaded by `--version`, by `check`, and before a gateway collects
    **dict.fromkeys(("cli.main", "gateway.config", "cloud.config"), HEAVY),
    **dict.fromkeys(("gateway.pipeline", "gateway.uplink"), LATER),
}
NAMES_REFUSED = {"util", "utils", "common", "helper", "helpers", "misc", "manager", "handler"}


class Module(NamedTuple):
    """One file of the house: its dotted name and its syntax."""

    name: str
    tree: ast.Module
    package: bool

    @property
    def unit(self) -> str:
        return unit_of(self.name)


def unit_of(name: str) -> str:
    """The longest named prefix, else the first two words."""
    words = name.split(".")
    prefixes = (".".join(words[:length]) for length in range(len(words), 1, -1))
    return next((prefix for prefix in prefixes if prefix in FLOOR), ".".join(words[:2]))


def room_of(name: str) -> str:
    return name.split(".", maxsplit=1)[0]


def floor_of(unit: str) -> int:
    return FLOOR.get(unit, DEFAULT.get(room_of(unit), NAMES.index("shells")))


def is_pure(module: Module) -> bool:
    return floor_of(module.unit) <= NAMES.index("derive")


def read_house() -> dict[str, Module]:
    house = {}
    for path in sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        words = path.relative_to(ROOT).with_suffix("").parts
        package = words[-1] == "__init__"
        name = ".".join(words[:-1] if package else words)
        house[name] = Module(name, ast.parse(path.read_text("utf-8")), package)
    return house


HOUSE = read_house()


def imported(module: Module, nodes: Iterator[ast.AST]) -> set[str]:
    """Dotted names of all that these nodes import; a name that is a module of ours is given whole."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = absolute(module, node)
            whole = (f"{base}.{alias.name}" for alias in node.names)
            found.update(name if name in HOUSE else base for name in whole)
    return found


def absolute(module: Module, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    up = module.name.split(".")[: len(module.name.split(".")) - node.level + module.package]
    return ".".join([*up, *([node.module] if node.module else [])])


IMPORTS = {name: imported(module, ast.walk(module.tree)) for name, module in HOUSE.items()}


def ours(name: str) -> bool:
    return room_of(name) in ROOMS


def units_imported(module: Module) -> set[str]:
    return {unit_of(name) for name in IMPORTS[module.name] if ours(name)} - {module.unit}


def statements_at_import(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """What runs when a module is loaded: everything outside functions, and not for types alone."""
    for node in body:
        yield node
        typing = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if not typing and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for part in ("body", "orelse", "finalbody"):
                yield from statements_at_import(getattr(node, part, []))


every_module = pytest.mark.parametrize("module", HOUSE.values(), ids=HOUSE.keys())
every_pure_module = pytest.mark.parametrize(
    "module", [pytest.param(module, id=name) for name, module in HOUSE.items() if is_pure(module)]
)


@every_module
def test_imports_only_go_down(module: Module) -> None:
    upward = {unit for unit in units_imported(module) if floor_of(unit) > floor_of(module.unit)}
    assert not upward, f"{module.name} is on floor {NAMES[floor_of(module.unit)]!r}"


def test_no_imports_go_round() -> None:
    graph: dict[str, set[str]] = {}
    for module in HOUSE.values():
        graph.setdefault(module.unit, set()).update(units_imported(module))
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


@pytest.mark.parametrize(("room", "other"), [("gateway", "cloud"), ("cloud", "gateway")])
def test_gateway_and_cloud_never_import_each_other(room: str, other: str) -> None:
    crossing = [
        (name, there) for name in HOUSE if room_of(name) == room for there in IMPORTS[name] if room_of(there) == other
    ]
    assert crossing == []


@every_module
def test_a_stage_never_imports_a_stage(module: Module) -> None:
    if module.unit in STAGES:
        others = {(module.unit, unit) for unit in units_imported(module) & STAGES}
        assert others <= STAGE_IMPORTS_ALLOWED, "only derive knows the order of the stages"


@every_pure_module
def test_what_decides_imports_no_clock_no_chance_no_disk_no_network_and_no_log(module: Module) -> None:
    words = {part for name in IMPORTS[module.name] for part in (name, room_of(name))}
    assert not words & IMPURE


@every_pure_module
def test_what_decides_calls_no_clock_no_chance_and_no_disk(module: Module) -> None:
    called = [node.func for node in ast.walk(module.tree) if isinstance(node, ast.Call)]
    names = {func.id for func in called if isinstance(func, ast.Name)} & IMPURE_CALLS
    attributes = {func.attr for func in called if isinstance(func, ast.Attribute)} & IMPURE_ATTRIBUTES
    chance = [n.lineno for n in ast.walk(module.tree) if isinstance(n, ast.Attribute) and ast.unparse(n) == "np.random"]
    assert (names, attributes, chance) == (set(), set(), [])


@pytest.mark.parametrize("library", HOMES)
def test_one_library_has_one_home(library: str) -> None:
    homes = set(HOMES[library].split())
    strangers = {
        name
        for name, module in HOUSE.items()
        if any(room_of(there) == library for there in IMPORTS[name]) and not homes & {module.unit, room_of(name)}
    }
    assert not strangers, f"{library} belongs in {HOMES[library] or 'no module at all'}"


def test_protocol_holds_only_what_both_sides_must_agree_on() -> None:
    assert {name.split(".")[1] for name in HOUSE if name.startswith("protocol.")} <= PROTOCOL


@pytest.mark.parametrize("start", WITHOUT)
def test_what_must_be_quick_loads_nothing_that_can_wait(start: str) -> None:
    loaded: set[str] = set()
    waiting = [start] if start in HOUSE else []
    while waiting:
        name = waiting.pop()
        if name in loaded:
            continue
        loaded.add(name)
        if name in HOUSE:
            module = HOUSE[name]
            waiting += imported(module, statements_at_import(module.tree.body))
            waiting += [name.rsplit(".", 1)[0]] if "." in name else []
    assert not {room_of(name) for name in loaded} & WITHOUT[start]


@every_module
def test_a_module_is_named_for_what_it_is(module: Module) -> None:
    assert not set(module.name.split(".")) & NAMES_REFUSED
