"""What no type can refuse: keys that contradict each other, and values out of bounds; each with what was expected."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from gateway.config.sections import (
    DIALECTS,
    LEAST_PER_DAY,
    MAX_CHUNK,
    MAX_DETECTORS,
    MAX_HOPS,
    MAX_MODEL,
    MAX_QUESTIONS,
    MAX_SERIES,
    MAX_THRESHOLD,
    MAX_TITLE,
    MAX_WALL,
    MAX_WINDOWS_LEARNT,
    MIN_CASCADE,
    MIN_CHUNK,
    MIN_HOP,
    MIN_MEMORY,
    TOPIC_LEVEL,
    Broker,
    Classify,
    GatewayConfig,
    Http,
    Models,
    Score,
    Source,
    Tasks,
    Uplink,
    Window,
)
from protocol.endpoints import broker_contradictions, is_loopback, split_address
from protocol.settings import NAME, RESERVED, Contradiction, Duration, written


def contradictions(config: GatewayConfig) -> Iterator[Contradiction]:
    """Give what is wrong with a whole configuration; the first one is the one to tell."""
    yield from _name_contradictions(config.name, known=bool(config.uplink.url))
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
    yield from _tasks_contradictions(config.tasks)
    yield from _classify_contradictions(config.classify)
    yield from _cascade_contradictions(config)
    yield from _http_contradictions(config.http)


def _name_contradictions(name: str, *, known: bool) -> Iterator[Contradiction]:
    if not NAME.fullmatch(name):
        yield "name", name, "1 to 63 of letters, digits, '.', '_', '-', beginning with a letter or digit"
    if known and name in RESERVED:
        yield "name", name, f"not {' or '.join(RESERVED)}, which a cloud does not take"


def _source_contradictions(key: str, source: Source) -> Iterator[Contradiction]:
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


def _dialect_contradictions(key: str, source: Source) -> Iterator[Contradiction]:
    unset = Source(topic=source.topic)
    for name in ("value", "time", "time_unit"):
        if (given := getattr(source, name)) != getattr(unset, name):
            yield f"{key}.{name}", given, f"no {name} when format is {source.format}: its payloads say what is what"
    if len(set(source.values.values())) < len(source.values):
        yield f"{key}.values", source.values, f"each path once when format is {source.format}"


def _path_contradictions(key: str, source: Source) -> Iterator[Contradiction]:
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


def _window_contradictions(key: str, window: Window) -> Iterator[Contradiction]:
    if window.size <= 0:
        yield f"{key}.size", "0", "more than 0"
    elif window.step <= 0 or window.size % window.step:
        whole = f"a duration that divides size ({written(window.size)}) without remainder"
        yield f"{key}.hop", written(window.step), whole
    elif window.size // window.step > MAX_HOPS:
        yield f"{key}.hop", written(window.step), f"at least size / {MAX_HOPS}"
    elif window.step < MIN_HOP:
        yield f"{key}.{'hop' if window.hop else 'size'}", written(window.step), "at least 1ms"


def _broker_contradictions(key: str, broker: Broker) -> Iterator[Contradiction]:
    yield from broker_contradictions(key, broker)
    if not 1 <= broker.receive_maximum <= 65_535:
        yield f"{key}.receive_maximum", broker.receive_maximum, "1 to 65535"


def _detector_contradictions(config: GatewayConfig) -> Iterator[Contradiction]:
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


def _same_name(key: str, name: str, names: set[str]) -> Iterator[Contradiction]:
    if name in names:
        yield f"{key}.name", name, "a name that no other [[score]] or [[rule]] has: alerts are told apart by it"
    names.add(name)


def _size_contradictions(key: str, size: Duration | None, sizes: set[int]) -> Iterator[Contradiction]:
    if size is not None and size not in sizes:
        yield f"{key}.window", written(size), "the size of one of the [[window]]s"


def _score_contradictions(key: str, score: Score) -> Iterator[Contradiction]:
    if not 2 <= score.warmup <= MAX_WINDOWS_LEARNT:
        yield f"{key}.warmup", score.warmup, f"2 to {MAX_WINDOWS_LEARNT} windows"
    elif not score.warmup <= score.memory <= MAX_WINDOWS_LEARNT:
        yield f"{key}.memory", score.memory, f"warmup ({score.warmup}) to {MAX_WINDOWS_LEARNT} windows"
    if not 0 < score.threshold <= MAX_THRESHOLD:
        yield f"{key}.threshold", score.threshold, f"more than 0, at most {MAX_THRESHOLD:g} deviations"
    for name in ("hold", "patience"):
        if not 0 <= (windows := getattr(score, name)) <= MAX_WINDOWS_LEARNT:
            yield f"{key}.{name}", windows, f"0 to {MAX_WINDOWS_LEARNT} windows"


def _models_contradictions(models: Models) -> Iterator[Contradiction]:
    if models.public_key and not re.fullmatch(r"[0-9a-fA-F]{64}", models.public_key):
        yield "models.public_key", models.public_key, "64 hex digits, as `cloud run` prints them"
    if not MIN_CHUNK <= models.chunk <= MAX_CHUNK:
        yield "models.chunk", f"{models.chunk}B", "1KiB to 256KiB"
    if not 1 <= models.max_bytes <= MAX_MODEL:
        yield "models.max_bytes", f"{models.max_bytes}B", "1B to 7MiB: a model is one journal record"


def _classify_contradictions(classify: Classify) -> Iterator[Contradiction]:
    if not 0 < classify.margin < 1:
        yield "classify.margin", classify.margin, "more than 0, less than 1"


def _cascade_contradictions(config: GatewayConfig) -> Iterator[Contradiction]:
    cascade = config.cascade
    if not 0 <= cascade.per_hour <= MAX_QUESTIONS:
        yield "cascade.per_hour", cascade.per_hour, f"0 to {MAX_QUESTIONS} questions"
    if not 0 <= cascade.wait <= MAX_WALL:
        yield "cascade.wait", written(cascade.wait), "0s to 7d"
    if cascade.bytes_per_hour < MIN_CASCADE:
        yield (
            "cascade.bytes_per_hour",
            f"{cascade.bytes_per_hour}B",
            "at least 1KiB: a question takes some hundred bytes",
        )
    if cascade.per_hour and not (config.uplink.url and config.models.public_key):
        missing = "uplink.url" if config.models.public_key else "models.public_key"
        yield "cascade.per_hour", cascade.per_hour, f"0 without {missing}: nobody could be asked, or believed"


def _tasks_contradictions(tasks: Tasks) -> Iterator[Contradiction]:
    for name in ("cpu", "wall"):
        if not 10**9 <= getattr(tasks, name) <= MAX_WALL:
            yield f"tasks.{name}", written(getattr(tasks, name)), "1s to 7d"
    if tasks.memory < MIN_MEMORY:
        yield "tasks.memory", f"{tasks.memory}B", "at least 48MiB: numpy alone takes half of it"


def _http_contradictions(http: Http) -> Iterator[Contradiction]:
    if http.listen and not _on_loopback(http.listen):
        yield "http.listen", http.listen, 'host:port on loopback, such as "127.0.0.1:9273"'


def _on_loopback(listen: str) -> bool:
    try:
        return is_loopback(split_address(listen)[0])
    except ValueError:
        return False


def _uplink_contradictions(uplink: Uplink) -> Iterator[Contradiction]:
    if uplink.url and urlsplit(uplink.url).scheme not in ("http", "https"):
        yield "uplink.url", uplink.url, "http://host:port or https://host"
    if uplink.url and not (uplink.token_file or uplink.token_env):
        yield "uplink.token_file", "", "the file (or token_env: the variable) that holds this gateway's token"
    if uplink.max_per_day is not None and uplink.max_per_day < LEAST_PER_DAY:
        yield "uplink.max_per_day", f"{uplink.max_per_day}B", "at least 64KiB: a connection alone costs some"
    if uplink.coarse < MIN_HOP:
        yield "uplink.coarse", written(uplink.coarse), "at least 1ms"
    if uplink.token_file and uplink.token_env:
        yield "uplink.token_env", uplink.token_env, "only one of token_file and token_env"
