"""Memory of a gateway whose cloud is dead and whose spool is full: each new file of telemetry drops the oldest."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench.quiet import SOURCES, beside_a_broker, simulate
from tests.bench.recovery import SPOOL_BYTES, build_spool
from tests.bench.rig import scratch
from tests.ports import free_port

HALF_MINUTE_S = 30.0


def measure(minutes: float = 8.0) -> Iterator[dict[str, object]]:
    """RSS each half minute at 10,000 readings/s over 1,000 series, with a spool of 1 GiB and nobody at the address."""
    with scratch() as directory:
        frames = build_spool(directory / "data")
        token = directory / "token"
        token.write_text("nobody asks for it")
        more = (
            f'{SOURCES}[spool]\ntelemetry_bytes = "{SPOOL_BYTES}B"\n'
            f'[uplink]\nurl = "http://127.0.0.1:{free_port()}"\ntoken_file = "{token}"\n'
        )
        with beside_a_broker(directory, more) as (running, url), simulate(url, 1000, 10_000):
            running.until("fieldgate_readings_recorded_total", 1, 60)
            seen: list[float] = []
            for _ in range(round(minutes * 60 / HALF_MINUTE_S)):
                time.sleep(HALF_MINUTE_S)
                seen.append(round(running.running.rss_mb, 1))
            metrics = running.metrics()
            yield {
                "spool_mb": round(metrics['fieldgate_spool_bytes{lane="telemetry"}'] / 1e6),
                "frames_before": frames,
                "frames_dropped": round(
                    metrics.get('fieldgate_frames_dropped_total{cause="spool_full",lane="telemetry"}', 0)
                ),
                "rss_mb_each_half_minute": seen,
                "rss_mb": max(seen),
                "rss_peak_mb": _peak(running.running.process.pid),
            }


def _peak(pid: int) -> float:
    """Give the most memory a process ever had, in 10^6 bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM"))
