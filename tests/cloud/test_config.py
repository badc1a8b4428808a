"""A cloud's file is read into one frozen value, or refused with key, value and expectation."""

from __future__ import annotations

import msgspec
import pytest

from cloud.config import parse
from learning.features import SETS
from protocol.errors import ConfigurationRefused
from protocol.training import FEATURES, Dataset


def test_the_shortest_file_listens_on_this_machine_only() -> None:
    config = parse('data = "d"', "cloud.toml")
    assert (config.address, config.loopback) == (("127.0.0.1", 8480), True)
    assert config.store.retention is None
    assert config.bus is None


@pytest.mark.parametrize(
    ("url", "address"),
    [
        pytest.param("mqtt://broker", ("broker", 1883, False), id="plain"),
        pytest.param("mqtts://broker", ("broker", 8883, True), id="TLS"),
        pytest.param("mqtt://[::1]:1", ("::1", 1, False), id="IPv6 and a port"),
    ],
)
def test_a_bus_is_host_port_and_tls(url: str, address: tuple[str, int, bool]) -> None:
    config = parse(f'data = "d"\n[bus]\nurl = "{url}"')
    assert config.bus is not None
    assert config.bus.address == address


@pytest.mark.parametrize(
    ("listen", "address", "loopback"),
    [
        pytest.param("0.0.0.0:80", ("0.0.0.0", 80), False, id="everywhere"),
        pytest.param("[::1]:0", ("::1", 0), True, id="IPv6 loopback"),
        pytest.param("localhost:8480", ("localhost", 8480), True, id="localhost"),
        pytest.param("cloud.example:8480", ("cloud.example", 8480), False, id="a name"),
        pytest.param("127.0.0.2:1", ("127.0.0.2", 1), True, id="all of 127/8"),
    ],
)
def test_an_address_is_host_and_port(listen: str, address: tuple[str, int], loopback: bool) -> None:
    config = parse(f'data = "d"\nlisten = "{listen}"')
    assert (config.address, config.loopback) == (address, loopback)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "c.toml: data = None: expected a value: this key is required", id="no data"),
        pytest.param('data = ""', "c.toml: data = '': expected the directory for keys, tokens", id="empty data"),
        pytest.param(
            'data = "d"\nlisen = "x"',
            "c.toml: lisen = 'x': expected one of bus, cascade, compute, data, ",
            id="near",
        ),
        pytest.param('data = "d"\nlisten = "8480"', "c.toml: listen = '8480': expected host:port", id="no port"),
        pytest.param('data = "d"\nlisten = "a:x"', "c.toml: listen = 'a:x': expected host:port", id="port no number"),
        pytest.param('data = "d"\npublic_url = "ftp://x"', "c.toml: public_url = 'ftp://x': expected http", id="url"),
        pytest.param('data = "d"\n[store]\nurl = "mysql:"', "c.toml: store.url = 'mysql:': expected", id="store"),
        pytest.param('data = "d"\n[store]\nretention = "0s"', "c.toml: store.retention = '0'", id="retention"),
        pytest.param('data = "d"\n[store]\nmax_pending = "1kB"', "c.toml: store.max_pending = 1000", id="pending"),
        pytest.param('data = "d"\n[bus]\nurl = "x"', "c.toml: bus.url = 'x': expected mqtt://host:port", id="bus"),
        pytest.param('data = "d"\n[bus]\nurl = "mqtt://a:b"', "c.toml: bus.url = 'mqtt://a:b'", id="bus port"),
        pytest.param('data = "d"\n[bus]\nurl = "mqtt://a"\nclient_id = ""', "c.toml: bus.client_id = ''", id="client"),
        pytest.param(
            'data = "d"\n[bus]\nurl = "mqtt://a"\npassword_file = "f"\npassword_env = "E"',
            "c.toml: bus.password_env = 'E': expected only one of",
            id="two passwords",
        ),
        pytest.param('data = "d"\n[models]\ngrowth = 1', "c.toml: models.growth = 1.0: expected more", id="growth"),
        pytest.param(
            'data = "d"\n[models]\ngrowth = nan', "c.toml: models.growth = nan: expected more", id="no growth"
        ),
        pytest.param('data = "d"\n[models]\nmin_interval = "0s"', "c.toml: models.min_interval = '0'", id="interval"),
        pytest.param('data = "d"\n[models]\nrefresh = "1s"', "c.toml: models.refresh = '1s': expected", id="refresh"),
        pytest.param(
            'data = "d"\n[models]\nexpires_after = "19m"', "c.toml: models.expires_after = '19m'", id="expiry"
        ),
        pytest.param('data = "d"\n[models]\nchunk = "1B"', "c.toml: models.chunk = 1: expected at least", id="chunk"),
        pytest.param(
            'data = "d"\n[compute]\nworkers = 0', "c.toml: compute.workers = 0: expected 1 to 64", id="workers"
        ),
        pytest.param('data = "d"\n[limits]\nviewers = 0', "c.toml: limits.viewers = 0: expected at least 1", id="none"),
    ],
)
def test_what_is_wrong_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigurationRefused) as refused:
        parse(text, "c.toml")
    assert str(refused.value).startswith(message)


JOB = 'data = "d"\n[bus]\nurl = "mqtt://a"\n[[job]]\nname = "hourly"\nwork = "moments"\n'
TLS = 'ca_file = "a"\ncert_file = "b"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param('data = "d"\n[[job]]\nname = "a"\nwork = "b"', "bus.url = None: expected the broker", id="no bus"),
        pytest.param(JOB + '[[job]]\nname = "hourly"\nwork = "x"', "job[1].name = 'hourly': expected", id="twice"),
        pytest.param(JOB + "series = []", "job[0].series = 0: expected 1 to 100", id="no series"),
        pytest.param(JOB + 'gateways = ["@x"]', "job[0].gateways = '@x': expected a label", id="no such label"),
        pytest.param(JOB + 'every = "9s"', "job[0].every = '9s': expected 10s to", id="too often"),
        pytest.param(JOB + 'wait = "2h"', "job[0].wait = '2h': expected at most", id="wait"),
        pytest.param(JOB + 'deadline = "2h"', "job[0].deadline = '2h': expected 1s to", id="deadline"),
        pytest.param(JOB + "catch_up = 101", "job[0].catch_up = 101: expected 1 to 100", id="catching up"),
        pytest.param(JOB + 'windows = "ever"', "job[0].windows = 'ever': expected one of", id="windows"),
        pytest.param(f'data = "d"\n[compute]\nscheduler = "tcp://a:1"\n{TLS}', "compute.scheduler = 'tcp", id="no TLS"),
        pytest.param(f'data = "d"\n[compute]\nscheduler = "tls://a"\n{TLS}', "compute.scheduler = 'tls", id="no port"),
        pytest.param('data = "d"\n[compute]\nscheduler = "tls://a:1"', "compute.ca_file = '': expected", id="no files"),
        pytest.param(f'data = "d"\n[compute]\n{TLS}', "compute.scheduler = '': expected", id="files for nobody"),
    ],
)
def test_what_is_wrong_with_jobs_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigurationRefused) as refused:
        parse(text)
    assert str(refused.value).startswith(message)


def test_more_standing_jobs_than_there_is_room_for_are_refused() -> None:
    jobs = "".join(f'[[job]]\nname = "a{number}"\nwork = "moments"\n' for number in range(33))
    with pytest.raises(ConfigurationRefused, match="at most 32"):
        parse(f'data = "d"\n[bus]\nurl = "mqtt://a"\n{jobs}')


TRAINING = {
    "name": '"state"',
    "channels": '["x", "y"]',
    "label": '"state"',
    "classes": "3",
    "samples": "16",
}


def trained(bus: str = '[bus]\nurl = "mqtt://a"\n', **changes: str) -> str:
    """Give a cloud's file with a training, some of its keys changed."""
    keys = "\n".join(f"{key} = {value}" for key, value in (TRAINING | changes).items())
    return f'data = "d"\n{bus}[[training]]\n{keys}\n'


def test_a_training_takes_windows_that_overlap_by_half() -> None:
    [training] = parse(trained()).training
    assert training.dataset == Dataset(("x", "y"), "state", 3, 16, 8)


WRONG: dict[str, tuple[dict[str, str], str]] = {
    "no bus": ({"bus": ""}, "bus.url = None: expected the broker"),
    "a name that is none": ({"name": '"a b"'}, "training[0].name = 'a b': expected 1 to 63"),
    "no channels": ({"channels": "[]"}, "training[0].channels = 0: expected 1 to 16"),
    "a channel twice": ({"channels": '["x", "x"]'}, "training[0].channels = ['x', 'x']: expected each"),
    "a label among the channels": ({"label": '"x"'}, "training[0].label = 'x': expected another measurement"),
    "too few samples": ({"samples": "7"}, "training[0].samples = 7: expected 8 to 65536"),
    "features we have not": ({"features": '"statistic/1"'}, "training[0].features = 'statistic/1': expected one of"),
    "a model we have not": ({"model": '"oracle"'}, "training[0].model = 'oracle': expected one of"),
    "no rate": ({"rate": "0"}, "training[0].rate = 0.0: expected 1e-06 to 10"),
    "too much momentum": ({"momentum": "1"}, "training[0].momentum = 1.0: expected 0.0 to 0.999"),
    "a number that is none": ({"margin": "nan"}, "training[0].margin = nan: expected -1.0 to 1.0"),
    "all of it held out": ({"holdout": "1"}, "training[0].holdout = 1.0: expected 0.01 to 0.9"),
    "no time": ({"deadline": '"1ms"'}, "training[0].deadline = '1ms': expected at least 1s"),
    "privacy of a rule that bounds nobody": (
        {"privacy": "{ noise = 1, epsilon = 8 }", "goal": "9"},
        "training[0].rule = 'trimmed': expected \"mean\" with [training.privacy]",
    ),
    "privacy of a sum divided by nothing": (
        {"privacy": "{ noise = 1, epsilon = 8 }", "rule": '"mean"'},
        "training[0].goal = 0: expected at least 1 with [training.privacy]",
    ),
    "no noise": (
        {"privacy": "{ noise = 0, epsilon = 8 }", "rule": '"mean"', "goal": "9"},
        "training[0].privacy.noise = 0.0: expected 0.01 to 10000",
    ),
    "privacy that is none": (
        {"privacy": "{ noise = 1, epsilon = 8, delta = 0.5 }", "rule": '"mean"', "goal": "9"},
        "training[0].privacy.delta = 0.5: expected 1e-15 to 0.1",
    ),
    "a budget for no round": (
        {"privacy": "{ noise = 2, epsilon = 4 }", "rule": '"mean"', "goal": "9"},
        "training[0].privacy.epsilon = 4.0: expected at least 4.73, what one round costs",
    ),
    "a key that is none": ({"sample": "3"}, "training[0].sample = 3"),
}


@pytest.mark.parametrize(("changes", "message"), WRONG.values(), ids=WRONG.keys())
def test_a_training_that_cannot_be_is_refused(changes: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigurationRefused) as refused:
        parse(trained(**changes), "")
    assert str(refused.value).startswith(message)


def test_a_name_is_one_trainings() -> None:
    text = trained() + trained(bus="").removeprefix('data = "d"\n')
    with pytest.raises(ConfigurationRefused, match=r"training\[1\]\.name = 'state'"):
        parse(text)


def test_the_features_that_may_be_configured_are_those_there_are() -> None:
    assert set(FEATURES) == set(SETS)


BUS = 'data = "d"\n[bus]\nurl = "mqtt://a"\n'
CASCADE = '[[cascade]]\nmodel = "{}"\nlarge = "{}"\n'
CASCADES_REFUSED = {
    "no bus": ('data = "d"\n' + CASCADE.format("m", "big"), "bus.url = None: expected the broker"),
    "a model's name that is none": (BUS + CASCADE.format("a b", "big"), "cascade[0].model = 'a b': expected a model's"),
    "two for one model": (BUS + 2 * CASCADE.format("m", "big"), "cascade[1].model = 'm': expected a model's"),
    "nothing larger": (BUS + CASCADE.format("m", ""), "cascade[0].large = '': expected the name of an installed model"),
}


@pytest.mark.parametrize(("text", "message"), CASCADES_REFUSED.values(), ids=CASCADES_REFUSED.keys())
def test_a_cascade_that_cannot_be_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigurationRefused) as refused:
        parse(text, "")
    assert str(refused.value).startswith(message)


def test_a_larger_model_is_a_name_or_with_a_slash_a_file() -> None:
    [named, filed] = parse(BUS + CASCADE.format("m", "big.1") + CASCADE.format("n", "./big")).cascade
    assert (named.large, named.file, filed.file) == ("big.1", "", "./big")
    assert (named.answers("barn"), msgspec.structs.replace(named, gateways=("mill-*",)).answers("barn")) == (
        True,
        False,
    )
