"""What an operator is told: where the page is, and how the first gateway is connected. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit


def describe_page(url: str, environment: Mapping[str, str], *, guarded: bool, token_file: str) -> str:
    """Say how to open the page; on a machine without a screen, how to reach it from one that has."""
    port = urlsplit(url).port or 80
    lines = [f"Page: {url}"]
    if not guarded and not (environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY")):
        host = environment.get("HOSTNAME") or "this-machine"
        lines += [
            "No screen here. On the machine with your browser run",
            f"    ssh -N -L {port}:127.0.0.1:{port} {environment.get('USER') or 'you'}@{host}",
            f"and open http://127.0.0.1:{port}/ there.",
        ]
    if guarded:
        lines += [f"Reading needs the admin token in {token_file}: open {url}login?token=...", ""]
    return "\n".join(lines)


def describe_first_run(url: str, gateway: str, token_file: str, public_key: str, bus: str = "") -> str:
    """Give a gateway's configuration, ready to paste; `bus` is the broker that models come over, if there is one."""
    broker = f'    [bus]\n    url = "{bus}"\n\n' if bus else ""
    return f"""\
First start: keys and tokens were made. A gateway that reports here, as gateway.toml:

    name = "{gateway}"
    data = "/var/lib/fieldgate"

    [[source]]
    topic = "sensors/{{device}}/{{measurement}}"

    [[score]]
    series = "*"

{broker}    [models]
    public_key = "{public_key}"

    [uplink]
    url = "{url.rstrip("/")}"
    token_file = "{token_file}"

Start it with  fieldgate gateway run gateway.toml  (copy the token file when it runs on another machine).
"""
