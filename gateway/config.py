"""The gateway's configuration: one frozen value, made once from one TOML text.

Durations are text such as "500ms", "10s", "1h" and become integer nanoseconds; sizes such as "2GiB" become bytes.
Secrets are never in the file: `*_file` and `*_env` say where they are. What is wrong is refused with its key, value and
expectation. `PipelineConfig` is the part that changes results: it is written into journal and checkpoints.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

import msgspec

from protocol.errors import ConfigurationRefused
from protocol.settings import NAME, UNITS_NS, Duration, Section, Size, convert, parse_quantity, parse_toml

__all__ = [
    "DIALECTS",
    "MAX_CHUNK",
    "MAX_HOPS",
    "MAX_MODEL",
    "MAX_SERIES",
    "MIN_CHUNK",
    "MIN_HOP",
    "NAME",
    "TOPIC_LEVEL",
    "Broker",
    "Clean",
    "Duration",
    "GatewayConfig",
    "Http",
    "Journal",
    "Models",
    "PipelineConfig",
    "Rule",
    "Score",
    "Size",
    "Source",
    "Spool",
    "Time",
    "Uplink",
    "Window",
    "digest",
    "parse",
    "parse_pipeline",
    "pipeline_text",
]

DIALECTS = ("zigbee2mqtt", "tasmota", "shelly")
"""Formats whose payloads name their measurements themselves: every number is one."""

TOPIC_LEVEL = re.compile(r"\{([a-z_]+)\}")
MIN_CHUNK, MAX_CHUNK = 1 << 10, 256 << 10
"""Bytes of a part: `protocol.manifest` has no larger one, and smaller ones only make more of them."""
MAX_MODEL = 7 << 20
"""Bytes of a model: with its manifest it must fit a record, `protocol.frame.MAX_RAW`."""
MAX_HOPS = 64
"""A hopping window holds a reading at most this often; more would multiply memory for no finer answer."""
MAX_SERIES = 1_000_000
MAX_DETECTORS = 64
"""[[score]] and [[rule]] together: each costs its own pass over the windows that close."""
MAX_WINDOWS_LEARNT = 1_000_000
MAX_THRESHOLD = 30.0
"""In deviations: less likely than anything that has ever been, and the last that float64 holds with room."""
MAX_TITLE = 128
"""Characters of a rule's name, which every alert of it carries."""
MAX_LIMIT = 1e150
"""`clean` lets no larger value through."""
MIN_HOP = 10**6
"""In ns, and no less than MAX_SERIES: window number and series share one integer of 63 bits."""


class Broker(Section, frozen=True):
    """An MQTT broker: `mqtt://host:1883` or `mqtts://host:8883`."""

    url: str = "mqtt://127.0.0.1:1883"
    client_id: str = ""  # "" is fieldgate-{name}: stable, or the session would be lost
    username: str = ""
    password_file: str = ""
    password_env: str = ""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    keepalive: Duration = Duration(60 * 10**9)
    session_expiry: Duration = Duration(7 * 86400 * 10**9)
    receive_maximum: int = 20_000

    @property
    def address(self) -> tuple[str, int, bool]:
        """Host, port, and whether TLS is spoken."""
        parts = urlsplit(self.url)
        tls = parts.scheme == "mqtts"
        return parts.hostname or "127.0.0.1", parts.port or (8883 if tls else 1883), tls


class Source(Section, frozen=True):
    """A family of topics and how to read their payloads."""

    topic: str
    format: Literal["json", "number", "msgpack", "zigbee2mqtt", "tasmota", "shelly"] = "json"
    value: str = "value"  # path of the value, levels parted by dots
    values: dict[str, str] = msgspec.field(default_factory=dict)  # measurement to path; replaces `value`
    time: str = "time"  # path of the event time; where it is missing, arrival time stands in
    time_unit: Literal["auto", "s", "ms", "us", "ns", "rfc3339"] = "auto"
    qos: Literal[0, 1] = 1
    device: str = ""  # fixed device name, for a topic without {device}
    measurement: str = ""  # fixed measurement, for a topic without {measurement}

    @property
    def filter(self) -> str:
        """The MQTT topic filter that this template subscribes to."""
        return TOPIC_LEVEL.sub("+", self.topic)


class Clean(Section, frozen=True):
    """What is removed from, and done to, the series whose names match; the first match wins, key by key."""

    series: str = "*"
    min: float | None = None
    max: float | None = None
    scale: float = 1.0
    offset: float = 0.0


class Window(Section, frozen=True):
    """One way to window the series whose names match."""

    series: str = "*"
    size: Duration = Duration(10 * 10**9)
    hop: Duration | None = None  # None: equal to size, a tumbling window
    lateness: Duration = Duration(0)
    late: Literal["revise", "drop"] = "revise"
    revise_for: Duration = Duration(60 * 10**9)

    @property
    def step(self) -> int:
        """Nanoseconds from one window's start to the next one's."""
        return self.hop or self.size


class Time(Section, frozen=True):
    """How far clocks are believed."""

    max_future: Duration = Duration(300 * 10**9)  # beyond the record's stamp: removed with reason `future`
    idle: Duration = Duration(5 * 10**9)  # a device silent this long has its event time carried on by ours


class Score(Section, frozen=True):
    """A detector that learns where it runs: it scores the windows of a group of series against their own past."""

    name: str = "score"  # of its alerts, and of the model it shares
    series: str = "*"
    by: Literal["series", "device", "all"] = "series"  # what makes a group: each series, each device's, or all of them
    window: Duration | None = None  # size of the windows it reads; None: the first definition that holds the series
    statistic: Literal["mean", "deviation", "minimum", "maximum", "first", "last"] = "mean"
    warmup: int = 360  # windows before a group scores by itself
    memory: int = 6_400  # windows that count: older ones fade
    threshold: float = 3.5  # as unlikely as so many deviations of one normal series
    hold: int = 120  # windows without an outlier that end an event: one event, one alert
    patience: int = 600  # windows that events keep from being learnt; what lasts longer is the new normal
    missing: Literal["impute", "skip"] = "impute"
    grace: Duration = Duration(5 * 10**9)  # how long a group waits for members, after the first
    share: Duration | None = Duration(3600 * 10**9)  # how often its statistics go to the cloud; "0s" is never


class When(NamedTuple):
    """What a rule waits for: `what` beyond `limit`, for so many ns."""

    what: str  # "value" or "rate"
    above: bool
    limit: float
    lasting: int


WHEN = re.compile(r"\s*(value|rate)\s*([<>])\s*([-+]?[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)(?:\s+for\s+(\S+))?\s*")


class Rule(Section, frozen=True):
    """A fixed limit: `when = "value > 80 for 30s"` or `"rate > 0.5 for 10s"` (per second)."""

    when: str
    name: str = ""  # "" is the text of `when`
    series: str = "*"
    window: Duration | None = None

    @property
    def title(self) -> str:
        """What its alerts are called."""
        return self.name or self.when

    @property
    def condition(self) -> When:
        """Read `when`; ValueError if it says nothing."""
        match = WHEN.fullmatch(self.when)
        if match is None or abs(float(match[3])) > MAX_LIMIT:
            raise ValueError(self.when)
        lasting = parse_quantity(match[4], UNITS_NS, self.when) if match[4] else 0
        return When(match[1], match[2] == ">", float(match[3]), lasting)


class Models(Section, frozen=True):
    """Models that come over the bus; without a `public_key` none is taken."""

    public_key: str = ""  # the cloud's Ed25519 key, 64 hex digits, as `cloud run` prints it
    chunk: Size = Size(32 << 10)  # bytes asked for at once
    max_bytes: Size = Size(4 << 20)  # of one model


class PipelineConfig(Section, frozen=True):
    """The part that changes results."""

    clean: tuple[Clean, ...] = ()
    window: tuple[Window, ...] = (Window(),)
    score: tuple[Score, ...] = ()
    rule: tuple[Rule, ...] = ()
    time: Time = Time()
    max_series: int = 100_000


class Journal(Section, frozen=True):
    """Where recorded readings are kept, and for how long."""

    max_bytes: Size = Size(2 << 30)
    max_age: Duration = Duration(30 * 86400 * 10**9)
    segment_bytes: Size = Size(8 << 20)
    record_interval: Duration = Duration(10 * 10**6)
    commit_interval: Duration = Duration(100 * 10**6)
    max_pending: Size = Size(32 << 20)  # readings not yet committed; when full, intake stops reading
    checkpoint_interval: Duration = Duration(300 * 10**9)
    checkpoint_readings: int = 1_000_000  # bounds the replay after a restart


class Spool(Section, frozen=True):
    """Results waiting for the cloud. When a lane is full its oldest segment is dropped and reported."""

    telemetry_bytes: Size = Size(1 << 30)
    results_bytes: Size = Size(256 << 20)
    alerts_bytes: Size = Size(256 << 20)
    segment_bytes: Size = Size(4 << 20)


class Uplink(Section, frozen=True):
    """The way to the cloud; without a `url` the gateway works alone."""

    url: str = ""
    token_file: str = ""
    token_env: str = ""
    ca_file: str = ""
    max_rate: Size | None = None  # bytes a second
    pack_interval: Duration = Duration(200 * 10**6)
    max_in_flight: Size = Size(1 << 20)


class Http(Section, frozen=True):
    """The gateway's own /livez, /readyz and /metrics; loopback only. Port 0 takes a free one."""

    listen: str = ""  # "" is off; "127.0.0.1:9273" for example


class GatewayConfig(Section, frozen=True):
    """The whole file."""

    name: str
    data: str
    source: tuple[Source, ...]
    devices: Broker = Broker()
    bus: Broker | None = None  # None: the devices' broker serves both
    clean: tuple[Clean, ...] = ()
    window: tuple[Window, ...] = (Window(),)
    score: tuple[Score, ...] = ()
    rule: tuple[Rule, ...] = ()
    models: Models = Models()
    time: Time = Time()
    max_series: int = 100_000
    journal: Journal = Journal()
    spool: Spool = Spool()
    uplink: Uplink = Uplink()
    http: Http = Http()

    @property
    def wants_models(self) -> bool:
        """Whether there is anything to do on a bus: it is configured, or a key is pinned."""
        return self.bus is not None or bool(self.models.public_key)

    @property
    def pipeline(self) -> PipelineConfig:
        """The part that changes results."""
        return PipelineConfig(
            clean=self.clean,
            window=self.window,
            score=self.score,
            rule=self.rule,
            time=self.time,
            max_series=self.max_series,
        )


def parse(text: str, file: str = "") -> GatewayConfig:
    """Read a gateway configuration; ConfigurationRefused explains the first thing that is wrong."""
    config = convert(parse_toml(text, file), GatewayConfig, file)
    for key, value, expectation in _contradictions(config):
        raise ConfigurationRefused(key, value, expectation, file=file)
    return config


def _contradictions(config: GatewayConfig) -> Iterator[tuple[str, object, str]]:
    if not NAME.fullmatch(config.name):
        yield "name", config.name, "1 to 63 of letters, digits, '.', '_', '-', beginning with a letter or digit"
    if not config.source:
        yield "source", [], "at least one [[source]] with a topic"
    for number, source in enumerate(config.source):
        yield from _source_contradictions(f"source[{number}]", source)
    for number, window in enumerate(config.window):
        yield from _window_contradictions(f"window[{number}]", window)
    if not 1 <= config.max_series <= MAX_SERIES:
        yield "max_series", config.max_series, f"1 to {MAX_SERIES}"
    for number, rule in enumerate(config.clean):
        if rule.min is not None and rule.max is not None and rule.min > rule.max:
            yield f"clean[{number}].min", rule.min, f"at most max, which is {rule.max}"
    for key, broker in (("devices", config.devices), ("bus", config.bus)):
        if broker is not None:
            yield from _broker_contradictions(key, broker)
    yield from _detector_contradictions(config)
    yield from _uplink_contradictions(config.uplink)
    yield from _models_contradictions(config.models)
    yield from _http_contradictions(config.http)


def _source_contradictions(key: str, source: Source) -> Iterator[tuple[str, object, str]]:
    levels = source.topic.split("/")
    names = TOPIC_LEVEL.findall(source.topic)
    if unknown := [name for name in names if name not in ("device", "measurement")]:
        yield f"{key}.topic", source.topic, f"the levels {{device}} and {{measurement}} only, not {{{unknown[0]}}}"
    if any(("{" in level or "+" in level) and not re.fullmatch(r"\+|\{[a-z_]+\}", level) for level in levels):
        yield f"{key}.topic", source.topic, "{device}, {measurement} and + to fill a whole level each"
    if "#" in levels[:-1]:
        yield f"{key}.topic", source.topic, "# at the end only"
    if "device" not in names and not source.device:
        yield f"{key}.topic", source.topic, 'a level {device}, or the key device = "name"'
    if source.format in DIALECTS:
        yield from _dialect_contradictions(key, source)
        return
    if "measurement" not in names and not source.measurement and not source.values:
        yield f"{key}.topic", source.topic, 'a level {measurement}, the key measurement = "name", or values = {...}'
    if source.format == "number" and source.values:
        yield f"{key}.values", source.values, "no values when format is number: a payload holds one"
    yield from _path_contradictions(key, source)


def _dialect_contradictions(key: str, source: Source) -> Iterator[tuple[str, object, str]]:
    unset = Source(topic=source.topic)
    for name in ("value", "time", "time_unit"):
        if (given := getattr(source, name)) != getattr(unset, name):
            yield f"{key}.{name}", given, f"no {name} when format is {source.format}: its payloads say what is what"
    if len(set(source.values.values())) < len(source.values):
        yield f"{key}.values", source.values, f"each path once when format is {source.format}"


def _path_contradictions(key: str, source: Source) -> Iterator[tuple[str, object, str]]:
    paths = {tuple(path.split(".")): path for path in (source.values.values() or (source.value,))}
    time = tuple(source.time.split("."))
    for name, text in (("time", source.time), *(("value", text) for text in paths.values())):
        if re.search(r'["\\\x00-\x1f]', text):
            yield f"{key}.{name}", text, "a path without quotes, backslashes and control characters"
    if time in paths:
        yield f"{key}.time", source.time, "another path than a value's"
    for path, text in paths.items():
        if any(path != other and path == other[: len(path)] for other in (*paths, time)):
            yield f"{key}.value", text, "a path that does not lead on to another value or to the time"
        if time == path[: len(time)]:
            yield f"{key}.time", source.time, "a path that does not lead on to a value"


def _window_contradictions(key: str, window: Window) -> Iterator[tuple[str, object, str]]:
    if window.size <= 0:
        yield f"{key}.size", "0", "more than 0"
    elif window.step <= 0 or window.size % window.step:
        yield f"{key}.hop", f"{window.step}ns", f"a duration that divides size ({window.size}ns) without remainder"
    elif window.size // window.step > MAX_HOPS:
        yield f"{key}.hop", f"{window.step}ns", f"at least size / {MAX_HOPS}"
    elif window.step < MIN_HOP:
        yield f"{key}.{'hop' if window.hop else 'size'}", f"{window.step}ns", "at least 1ms"


def _broker_contradictions(key: str, broker: Broker) -> Iterator[tuple[str, object, str]]:
    if urlsplit(broker.url).scheme not in ("mqtt", "mqtts"):
        yield f"{key}.url", broker.url, "mqtt://host:port or mqtts://host:port"
    if not 1 <= broker.receive_maximum <= 65_535:
        yield f"{key}.receive_maximum", broker.receive_maximum, "1 to 65535"
    if broker.password_file and broker.password_env:
        yield f"{key}.password_env", broker.password_env, "only one of password_file and password_env"


def _detector_contradictions(config: GatewayConfig) -> Iterator[tuple[str, object, str]]:
    if (number := len(config.score) + len(config.rule)) > MAX_DETECTORS:
        yield "score", number, f"at most {MAX_DETECTORS} [[score]] and [[rule]] together"
    sizes = {int(window.size) for window in config.window}
    names: set[str] = set()
    for number, score in enumerate(config.score):
        key = f"score[{number}]"
        if not NAME.fullmatch(score.name):
            yield f"{key}.name", score.name, "1 to 63 of letters, digits, '.', '_', '-': a model is named like it"
        yield from _same_name(key, score.name, names)
        yield from _size_contradictions(key, score.window, sizes)
        yield from _score_contradictions(key, score)
    for number, rule in enumerate(config.rule):
        key = f"rule[{number}]"
        try:
            _ = rule.condition
        except ValueError:
            yield f"{key}.when", rule.when, '"value > 80", "value < 5 for 30s" or "rate > 0.5 for 10s" (per second)'
        if not 1 <= len(rule.title) <= MAX_TITLE:
            yield f"{key}.name", rule.title, f"1 to {MAX_TITLE} characters"
        yield from _same_name(key, rule.title, names)
        yield from _size_contradictions(key, rule.window, sizes)


def _same_name(key: str, name: str, names: set[str]) -> Iterator[tuple[str, object, str]]:
    if name in names:
        yield f"{key}.name", name, "a name that no other [[score]] or [[rule]] has: alerts are told apart by it"
    names.add(name)


def _size_contradictions(key: str, size: Duration | None, sizes: set[int]) -> Iterator[tuple[str, object, str]]:
    if size is not None and size not in sizes:
        yield f"{key}.window", f"{size}ns", "the size of one of the [[window]]s"


def _score_contradictions(key: str, score: Score) -> Iterator[tuple[str, object, str]]:
    if not 2 <= score.warmup <= MAX_WINDOWS_LEARNT:
        yield f"{key}.warmup", score.warmup, f"2 to {MAX_WINDOWS_LEARNT} windows"
    elif not score.warmup <= score.memory <= MAX_WINDOWS_LEARNT:
        yield f"{key}.memory", score.memory, f"warmup ({score.warmup}) to {MAX_WINDOWS_LEARNT} windows"
    if not 0 < score.threshold <= MAX_THRESHOLD:
        yield f"{key}.threshold", score.threshold, f"more than 0, at most {MAX_THRESHOLD:g} deviations"
    for name in ("hold", "patience"):
        if not 0 <= (windows := getattr(score, name)) <= MAX_WINDOWS_LEARNT:
            yield f"{key}.{name}", windows, f"0 to {MAX_WINDOWS_LEARNT} windows"


def _models_contradictions(models: Models) -> Iterator[tuple[str, object, str]]:
    if models.public_key and not re.fullmatch(r"[0-9a-fA-F]{64}", models.public_key):
        yield "models.public_key", models.public_key, "64 hex digits, as `cloud run` prints them"
    if not MIN_CHUNK <= models.chunk <= MAX_CHUNK:
        yield "models.chunk", f"{models.chunk}B", "1KiB to 256KiB"
    if not 1 <= models.max_bytes <= MAX_MODEL:
        yield "models.max_bytes", f"{models.max_bytes}B", "1B to 7MiB: a model is one journal record"


def _http_contradictions(http: Http) -> Iterator[tuple[str, object, str]]:
    if http.listen and not _is_loopback(http.listen):
        yield "http.listen", http.listen, 'host:port on loopback, such as "127.0.0.1:9273"'


def _is_loopback(listen: str) -> bool:
    try:
        address = urlsplit(f"//{listen}")
        host, port = address.hostname, address.port
        return port is not None and (host == "localhost" or ip_address(host or "").is_loopback)
    except ValueError:
        return False


def _uplink_contradictions(uplink: Uplink) -> Iterator[tuple[str, object, str]]:
    if uplink.url and urlsplit(uplink.url).scheme not in ("http", "https"):
        yield "uplink.url", uplink.url, "http://host:port or https://host"
    if uplink.url and not (uplink.token_file or uplink.token_env):
        yield "uplink.token_file", "", "the file (or token_env: the variable) that holds this gateway's token"
    if uplink.token_file and uplink.token_env:
        yield "uplink.token_env", uplink.token_env, "only one of token_file and token_env"


def pipeline_text(config: PipelineConfig) -> str:
    """Give the canonical text of the part that changes results; `parse_pipeline` reads it back."""
    return msgspec.json.encode(config, order="deterministic", enc_hook=int).decode()


def parse_pipeline(text: str) -> PipelineConfig:
    """Read what `pipeline_text` wrote."""
    return msgspec.json.decode(text, type=PipelineConfig, dec_hook=lambda kind, value: kind(value))


def digest(window: Window, clean: tuple[Clean, ...]) -> str:
    """Name a window definition: sixteen hex digits over kind, size, hop and cleaning; part of the rows' key."""
    text = msgspec.json.encode(
        [window.series, int(window.size), window.step, clean], order="deterministic", enc_hook=int
    )
    return hashlib.sha256(text).hexdigest()[:16]
