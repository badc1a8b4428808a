"""A configuration is read into one frozen value, or refused with key, value, expectation and a suggestion."""

from __future__ import annotations

import pytest

from gateway.config import (
    MAX_CHUNK,
    MAX_MODEL,
    Clean,
    GatewayConfig,
    Window,
    digest,
    parse,
    parse_pipeline,
    pipeline_text,
)
from gateway.journal import decode_record, encode_record
from gateway.records import ModelRecord
from protocol import frame, manifest
from protocol.errors import ConfigurationRefused

SHORTEST = """
name = "barn"
data = "/var/lib/fieldgate"

[[source]]
topic = "sensors/{device}/{measurement}"
"""

HEAD = 'name = "barn"\ndata = "d"\n'


def test_the_shortest_useful_file_is_under_ten_lines() -> None:
    config = parse(SHORTEST, "gateway.toml")
    assert config.name == "barn"
    assert config.source[0].filter == "sensors/+/+"
    assert config.window == (Window(),)
    assert config.devices.address == ("127.0.0.1", 1883, False)


def test_durations_and_sizes_are_text_with_units() -> None:
    config = parse(
        SHORTEST + '[[window]]\nsize = "1.5s"\nhop = "500ms"\n[spool]\ntelemetry_bytes = "2GiB"\n', "gateway.toml"
    )
    assert (config.window[0].size, config.window[0].step) == (1_500_000_000, 500_000_000)
    assert config.spool.telemetry_bytes == 2 << 30


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            HEAD + '[[source]]\ntopik = "a/{device}/{measurement}"',
            "g.toml: source[0].topik = 'a/{device}/{measurement}': expected one of device, format, measurement, qos, "
            "time, time_unit, topic, value, values (did you mean 'topic'?)",
            id="misspelt key",
        ),
        pytest.param(
            HEAD + '[[source]]\ntopic = "a/{device}/{measurement}"\nformat = "jsn"',
            "g.toml: source[0].format = 'jsn': expected one of 'json', 'number', 'msgpack', 'zigbee2mqtt', 'tasmota', "
            "'shelly'",
            id="unknown choice",
        ),
        pytest.param(
            HEAD + "source = []", "g.toml: source = []: expected at least one [[source]] with a topic", id="none"
        ),
        pytest.param(
            SHORTEST + "[[window]]\nsize = 5",
            'g.toml: window[0].size = 5: expected a duration with its unit, such as "500ms", "10s" or "1h"',
            id="no unit",
        ),
        pytest.param(
            SHORTEST + '[[window]]\nsize = "10s"\nhop = "3s"',
            "g.toml: window[0].hop = '3s': expected a duration that divides size (10s) without remainder",
            id="hop that does not divide",
        ),
        pytest.param(
            SHORTEST + '[[window]]\nsize = "100us"',
            "g.toml: window[0].size = '100us': expected at least 1ms",
            id="windows too short to be told apart",
        ),
        pytest.param(
            "max_series = 2000000\n" + SHORTEST,
            "g.toml: max_series = 2000000: expected 1 to 1000000",
            id="more series than can be told apart",
        ),
        pytest.param(
            SHORTEST + '[uplink]\nurl = "http://cloud"',
            "g.toml: uplink.token_file = '': expected the file (or token_env: the variable) that holds this gateway's "
            "token",
            id="no token",
        ),
        pytest.param(
            'data = "d"\nsource = [{topic = "t"}]',
            "g.toml: name = None: expected a value: this key is required",
            id="missing",
        ),
        pytest.param(
            HEAD + '[[source]]\ntopic = "a/{devise}"',
            "g.toml: source[0].topic = 'a/{devise}': expected the levels {device} and {measurement} only, not {devise}",
            id="unknown level",
        ),
        pytest.param(
            HEAD + '[[source]]\ntopic = "{device}/{measurement}"\nvalue = "a"\ntime = "a.t"',
            "g.toml: source[0].value = 'a': expected a path that does not lead on to another value or to the time",
            id="a value inside a value",
        ),
        pytest.param(
            HEAD + '[[source]]\ntopic = "{device}/{measurement}"\nvalue = \'a"b\'',
            "g.toml: source[0].value = 'a\"b': expected a path without quotes, backslashes and control characters",
            id="a path that no payload can be searched for",
        ),
        pytest.param(
            HEAD + '[[source]]\ntopic = "{device}/{measurement}"\nvalue = "time"',
            "g.toml: source[0].time = 'time': expected another path than a value's",
            id="time is a value",
        ),
        pytest.param(
            SHORTEST + '[devices]\nurl = "tcp://x"',
            "g.toml: devices.url = 'tcp://x': expected mqtt://host:port or mqtts://host:port",
            id="scheme",
        ),
        pytest.param(
            SHORTEST + '[http]\nlisten = "0.0.0.0:9273"',
            "g.toml: http.listen = '0.0.0.0:9273': expected host:port on loopback, such as \"127.0.0.1:9273\"",
            id="a face beyond loopback",
        ),
        pytest.param(
            SHORTEST + "[classify]\nmargin = 0.0",
            "g.toml: classify.margin = 0.0: expected more than 0, less than 1",
            id="a margin that is none",
        ),
        pytest.param(
            SHORTEST + "[cascade]\nper_hour = -1",
            "g.toml: cascade.per_hour = -1: expected 0 to 100000 questions",
            id="fewer questions than none",
        ),
        pytest.param(
            SHORTEST + '[cascade]\nbytes_per_hour = "9B"',
            "g.toml: cascade.bytes_per_hour = '9B': expected at least 1KiB: a question takes some hundred bytes",
            id="less than a question",
        ),
        pytest.param(
            SHORTEST + "[cascade]\nper_hour = 9",
            "g.toml: cascade.per_hour = 9: expected 0 without models.public_key: nobody could be asked, or believed",
            id="questions whose answers nobody could believe",
        ),
        pytest.param(
            SHORTEST.replace('"barn"', '"cloud"') + '[uplink]\nurl = "http://c"\ntoken_file = "t"',
            "g.toml: name = 'cloud': expected not admin or cloud, which a cloud does not take",
            id="a name that a cloud does not take",
        ),
        pytest.param(
            SHORTEST + '[cascade]\nwait = "8d"',
            "g.toml: cascade.wait = '8d': expected 0s to 7d",
            id="a question that never goes",
        ),
        pytest.param(
            SHORTEST + '[models]\npublic_key = "c0ffee"',
            "g.toml: models.public_key = 'c0ffee': expected 64 hex digits, as `cloud run` prints them",
            id="half a key",
        ),
        pytest.param(
            SHORTEST + '[models]\nchunk = "257KiB"',
            "g.toml: models.chunk = '263168B': expected 1KiB to 256KiB",
            id="parts too large",
        ),
        pytest.param(
            SHORTEST + '[models]\nchunk = "1kB"',
            "g.toml: models.chunk = '1000B': expected 1KiB to 256KiB",
            id="parts too small",
        ),
        pytest.param(
            SHORTEST + '[models]\nmax_bytes = "8MiB"',
            "g.toml: models.max_bytes = '8388608B': expected 1B to 7MiB: a model is one journal record",
            id="a model that no record holds",
        ),
        pytest.param(
            SHORTEST + '[bus]\nurl = "tcp://x"',
            "g.toml: bus.url = 'tcp://x': expected mqtt://host:port or mqtts://host:port",
            id="scheme of the bus",
        ),
        pytest.param(
            SHORTEST + '[uplink]\nmax_per_day = "10kB"',
            "g.toml: uplink.max_per_day = '10000B': expected at least 64KiB: a connection alone costs some",
            id="a budget that nothing fits into",
        ),
        pytest.param(
            SHORTEST + '[uplink]\ncoarse = "0s"',
            "g.toml: uplink.coarse = '0s': expected at least 1ms",
            id="a coarse window of no length",
        ),
        pytest.param("name = ", "g.toml: (syntax) = ", id="not TOML"),
    ],
)
def test_what_is_wrong_is_refused_with_key_value_and_expectation(text: str, message: str) -> None:
    with pytest.raises(ConfigurationRefused) as refused:
        parse(text, "g.toml")
    assert str(refused.value).startswith(message)


def test_the_largest_parts_and_models_are_those_that_protocol_and_journal_take() -> None:
    assert MAX_CHUNK == manifest.MAX_CHUNK
    content = bytes(MAX_MODEL)
    kind, body = encode_record(ModelRecord(1, bytes(manifest.MAX_MANIFEST), content))
    record = decode_record(kind, frame.decode(frame.encode(kind, body)).body)
    assert isinstance(record, ModelRecord)
    assert record.content == content


@pytest.mark.parametrize(
    ("text", "windows"),
    [
        pytest.param("", ["* 10s"], id="no budget"),
        pytest.param('[uplink]\nmax_per_day = "9MB"', ["* 10s", "* 600s"], id="a coarse one is added"),
        pytest.param('[uplink]\nmax_per_day = "9MB"\ncoarse = "60s"', ["* 10s", "* 60s"], id="as coarse as is wanted"),
        pytest.param(
            '[uplink]\nmax_per_day = "9MB"\n[[window]]\nsize = "1s"\nhop = "500ms"\n[[window]]\nsize = "1h"\n'
            '[[window]]\nseries = "a/*"\nsize = "1s"\n[[window]]\nseries = "a/*"\nsize = "5s"',
            ["* 1s", "* 3600s", "a/* 1s", "a/* 5s", "a/* 600s"],
            id="only for patterns that have none, once",
        ),
    ],
)
def test_a_daily_budget_gives_each_pattern_a_coarse_window(text: str, windows: list[str]) -> None:
    made = parse(SHORTEST + text).pipeline.window
    assert [f"{window.series} {window.size // 10**9}s" for window in made] == windows
    assert all(window.step == window.size for window in made[-1:])


def test_the_pipeline_part_reads_back_as_written() -> None:
    config: GatewayConfig = parse(SHORTEST + '[[clean]]\nseries = "*/t"\nmin = -40\nscale = 0.1\n', "")
    assert parse_pipeline(pipeline_text(config.pipeline)) == config.pipeline


def test_a_definitions_digest_names_size_hop_and_cleaning_but_not_lateness() -> None:
    window = Window()
    assert digest(window, ()) == digest(Window(late="drop"), ())
    assert digest(window, ()) != digest(window, (Clean(scale=2.0),))
