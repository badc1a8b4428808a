"""What a gateway's file may say, section by section, with the defaults; and the bounds of what is believed."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

import msgspec

from protocol import endpoints
from protocol.settings import UNITS_NS, Duration, Section, Size, parse_quantity

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
MAX_WALL = 7 * 86400 * 10**9
"""In ns: nobody waits longer for a task."""
MIN_MEMORY = 48 << 20
MAX_QUESTIONS = 100_000
MIN_CASCADE = 1 << 10
LEAST_PER_DAY = 64 << 10
MIN_HOP = 10**6
"""In ns, and no less than MAX_SERIES: window number and series share one integer of 63 bits."""


class Broker(endpoints.Broker, frozen=True):
    """An MQTT broker as the gateway's intake uses it."""

    url: str = "mqtt://127.0.0.1:1883"
    client_id: str = ""  # "" is fieldgate-{name}: stable, or the session would be lost
    keepalive: Duration = Duration(60 * 10**9)
    session_expiry: Duration = Duration(7 * 86400 * 10**9)
    receive_maximum: int = 20_000


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


class Tasks(Section, frozen=True):
    """What this gateway computes for the cloud, and within which limits; without `models.public_key` nothing."""

    allow: tuple[str, ...] = ("*",)  # names of tasks
    cpu: Duration = Duration(600 * 10**9)  # of one task
    wall: Duration = Duration(3600 * 10**9)
    memory: Size = Size(192 << 20)
    share: tuple[str, ...] = ()  # series whose raw readings may leave this gateway: patterns of names
    blocks: Size = Size(256 << 20)  # of sealed history once more, series by series (`gateway.blocks`); "0B" is none


class Classify(Section, frozen=True):
    """What classifiers that were learnt together say here; without one nothing."""

    margin: float = 0.02  # of right answers: by so much must a head of its own, or the version before, be better


class Cascade(Section, frozen=True):
    """What a larger model in the cloud is asked, of windows that classifiers here are unsure of; by default nothing."""

    per_hour: int = 0  # questions
    bytes_per_hour: Size = Size(64 << 10)  # that they take; their features leave this gateway
    wait: Duration = Duration(5 * 10**9)  # for other questions, to go up together


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
    max_per_day: Size | None = None  # bytes, by UTC: for links that are paid by volume
    coarse: Duration = Duration(600 * 10**9)  # windows at least so long go up in place of finer ones when that is short
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
    tasks: Tasks = Tasks()
    classify: Classify = Classify()
    cascade: Cascade = Cascade()
    time: Time = Time()
    max_series: int = 100_000
    min_free: Size | None = None  # of the disk that holds `data`; None: a twentieth of it, at most 512 MiB
    journal: Journal = Journal()
    spool: Spool = Spool()
    uplink: Uplink = Uplink()
    http: Http = Http()

    @property
    def wants_models(self) -> bool:
        """Whether there is anything to do on a bus: it is configured, or a key is pinned."""
        return self.bus is not None or bool(self.models.public_key)

    @property
    def windows(self) -> tuple[Window, ...]:
        """The [[window]]s; with a daily budget also a coarse one for each pattern that has none."""
        if self.uplink.max_per_day is None:
            return self.window
        coarse = self.uplink.coarse
        covered = {window.series for window in self.window if window.size >= coarse}
        patterns = {window.series: window for window in reversed(self.window) if window.series not in covered}
        more = [msgspec.structs.replace(window, size=coarse, hop=None) for window in reversed(patterns.values())]
        return (*self.window, *more)

    @property
    def pipeline(self) -> PipelineConfig:
        """The part that changes results."""
        return PipelineConfig(
            clean=self.clean,
            window=self.windows,
            score=self.score,
            rule=self.rule,
            time=self.time,
            max_series=self.max_series,
        )
