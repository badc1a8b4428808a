"""How the demonstration's processes begin: as the command `fieldgate`, but ended by the system with their parent."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1
"""From linux/prctl.h."""


def main() -> None:
    """Be the broker or, with any other arguments, the command; the first argument is the parent's process id."""
    end_with_parent(int(sys.argv.pop(1)))
    if sys.argv[1:2] == ["broker"]:
        serve_broker(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
        return

    from cli.main import main as be_fieldgate  # noqa: PLC0415 - the broker needs none of it

    be_fieldgate()


def end_with_parent(parent: int) -> None:
    """Ask the system for SIGTERM when the parent is gone, and end now if it is already."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit("the demonstration is gone")


def serve_broker(directory: Path, v5_port: int, v4_port: int) -> None:
    """Be a broker on the loopback until killed."""
    from iotcore import IotCoreBroker  # noqa: PLC0415 - other processes have no broker

    from cli.broker import LISTENER, ROUTER  # noqa: PLC0415 - the same

    path = directory / "broker.toml"
    listeners = [LISTENER.format(version=4, port=v4_port), LISTENER.format(version=5, port=v5_port)]
    path.write_text("\n".join([ROUTER, *listeners]))
    logging.getLogger("rumqttd").setLevel(logging.CRITICAL)  # it logs every packet as an error span
    IotCoreBroker(config_path=str(path)).run_forever()


if __name__ == "__main__":
    main()
