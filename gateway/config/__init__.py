"""The gateway's configuration: one frozen value, made once from one TOML text.

Durations are text such as "500ms", "10s", "1h" and become integer nanoseconds; sizes such as "2GiB" become bytes.
Secrets are never in the file: `*_file` and `*_env` say where they are. What is wrong is refused with its key, value and
expectation. `PipelineConfig` is the part that changes results: it is written into journal and checkpoints.
"""

from __future__ import annotations

import hashlib

import msgspec

from gateway.config.check import contradictions
from gateway.config.sections import (
    DIALECTS,
    MAX_CHUNK,
    MAX_HOPS,
    MAX_MODEL,
    MAX_SERIES,
    MIN_CHUNK,
    MIN_HOP,
    TOPIC_LEVEL,
    Broker,
    Cascade,
    Classify,
    Clean,
    GatewayConfig,
    Http,
    Journal,
    Models,
    PipelineConfig,
    Rule,
    Score,
    Source,
    Spool,
    Tasks,
    Time,
    Uplink,
    Window,
)
from protocol.errors import ConfigurationRefused
from protocol.settings import NAME, Duration, Size, convert, parse_toml

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
    "Cascade",
    "Classify",
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
    "Tasks",
    "Time",
    "Uplink",
    "Window",
    "digest",
    "parse",
    "parse_pipeline",
    "pipeline_text",
]


def parse(text: str, file: str = "") -> GatewayConfig:
    """Read a gateway configuration; ConfigurationRefused explains the first thing that is wrong."""
    config = convert(parse_toml(text, file), GatewayConfig, file)
    for key, value, expectation in contradictions(config):
        raise ConfigurationRefused(key, value, expectation, file=file)
    return config


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
