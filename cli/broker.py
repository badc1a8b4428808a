"""A broker on this machine's loopback: iotcore (rumqttd), MQTT 5 and 3.1.1. For the demonstration and tests.

rumqttd speaks one protocol version a listener, so there are two; one router serves both.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from iotcore import Broker

LISTENER = """\
[v{version}.1]
name = "v{version}"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 1
[v{version}.1.connections]
connection_timeout_ms = 60000
max_payload_size = 1048576
max_inflight_count = 500
dynamic_filters = true
"""

ROUTER = """\
id = 0
[router]
id = 0
max_connections = 10010
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10
"""


class EmbeddedBroker:
    """A broker in a child process while the context is open; OSError if a port is taken. It ends when we do."""

    def __init__(self, directory: Path, v5_port: int, v4_port: int) -> None:
        self.v5_port, self.v4_port = v5_port, v4_port
        self._path = directory / "broker.toml"
        self._broker: Broker | None = None

    @property
    def url(self) -> str:
        """Where MQTT 5 is spoken."""
        return f"mqtt://127.0.0.1:{self.v5_port}"

    @property
    def v4_url(self) -> str:
        """Where MQTT 3.1.1 is spoken."""
        return f"mqtt://127.0.0.1:{self.v4_port}"

    def __enter__(self) -> Self:
        listeners = [LISTENER.format(version=4, port=self.v4_port), LISTENER.format(version=5, port=self.v5_port)]
        self._path.write_text("\n".join([ROUTER, *listeners]))
        self._broker = Broker(config_path=str(self._path))
        self._broker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._broker is not None:
            self._broker.stop()
