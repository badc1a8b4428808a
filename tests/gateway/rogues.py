"""A site with a journal of three readings, and a package installed beside us whose task does what a task should not."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from gateway import config
from gateway.journal import Journal
from gateway.records import Readings, ReadingsRecord
from gateway.segment import OsFiles

ROGUES = """
from gateway.tasks import Answer
from protocol.errors import TaskRefused

class Rogue:
    version = 1
    def __call__(self, task, past, kept):
        match task.job:
            case "endless":
                while True:
                    pass
            case "hungry":
                hoard = [bytes(1 << 20) for _ in range(10_000)]
            case "crashing":
                raise RuntimeError("out of luck")
            case "who":
                import os
                return Answer(str(os.getpid()).encode())
            case "quitting":
                import os
                os._exit(3)
            case "sleeping":
                import time
                time.sleep(1000)
            case "picky":
                raise TaskRefused("series", "no series of that name")
            case "talking":
                print("heard on standard output")
                return Answer(b"said", keep=b"kept " + kept)
            case "noting":
                return Answer(b"said", note="all is not well")
            case "long":
                return Answer(bytes(7 << 20))

rogue = Rogue()
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a data directory, and install a package beside us that offers the task `rogue`."""
    about = tmp_path / "site" / "rogues-1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: rogues\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[fieldgate.tasks]\nrogue = rogues:rogue\n")
    (tmp_path / "site" / "rogues.py").write_text(ROGUES)
    here = str(Path(__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "site"), here]))
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    journal = Journal.open(OsFiles(), tmp_path / "journal", config.Journal(), about=dict)
    series, value = np.array([0, 1, 0], np.int32), np.array([1.0, 5.0, 3.0])
    journal.append(ReadingsRecord(1, Readings(series, np.array([10, 20, 30]), value), ["pump/flow", "pump/heat"]))
    journal.commit()
    journal.close()
    return tmp_path
