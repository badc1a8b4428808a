"""What is wrong with a journal or a spool: where, what it means, and what is to be done."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from cli.storage.stores import checkpoints_of, journal_of, spool_of
from gateway.config import GatewayConfig
from gateway.journal import decode_record
from gateway.segment import Files, Finding, Surveyed, survey
from gateway.spool import MARKS
from protocol import columns, frame
from protocol.errors import FrameRefused
from protocol.messages import JOURNAL_LANE, LANES

PAUSE_S = 0.02
"""Between two looks at a record that is just being written."""

DISK = "they are stepped over and counted; look at the disk: dmesg, smartctl"
WORDS = {
    "records": ("records that cannot be read; the others in the file can", DISK),
    "tail": (
        (
            "the end of the newest file is torn: a kill or a power cut leaves that of a commit nobody was told of; "
            "if there was none, records are lost"
        ),
        "the next start cuts it off and keeps it aside; `repair` does it now",
    ),
    "header": ("what the file says of itself cannot be read; its records can", "nothing: another file says it too"),
    "missing": (
        "records that no file has: a file has gone, or they were given up while the disk refused, and declared lost",
        "put the file back if you have it; else nothing: they are stepped over",
    ),
    "chain": (
        "a record that does not continue the one before it: another history was copied in",
        "find out who copied files here; the cloud notices too, and a new epoch begins",
    ),
    "place": (
        "a file that belongs elsewhere, or bears another's name",
        "the next start gives it its own name or sets it aside; `repair` does it now",
    ),
    "content": (
        "a record that is whole, and says what this version cannot read",
        "stepped over and counted; was a later version at work here?",
    ),
    "disk": ("a file that the disk cannot read", DISK),
    "checkpoint": (
        "a checkpoint that cannot be read: the older one is used, and more is replayed",
        "the next start sets it aside; `repair` does it now",
    ),
    "marks": (
        "which frames were receipted cannot be read: they are sent again, and recognised",
        "nothing: it is written anew",
    ),
}


def journal_damage(config: GatewayConfig, files: Files) -> dict[str, Any]:
    """Read a journal and its checkpoints."""
    with journal_of(config, files) as journal:  # says whether there is one
        directory = journal.log.directory
    found = survey(files, directory, JOURNAL_LANE, 0, lambda held: decode_record(held.kind, held.body), _pause)
    return _report(directory, found, [*found.findings, *_checkpoints(config, files)])


def spool_damage(config: GatewayConfig, files: Files) -> dict[str, Any]:
    """Read a spool, all lanes of its epoch."""
    with spool_of(config, files) as spool:
        home, epoch = spool.home, spool.epoch
    whole, findings = Surveyed(), []
    for number, lane in enumerate(LANES):
        found = survey(files, home / lane, number, epoch, lambda held: frame.load(held.kind, held.body), _pause)
        findings += [finding._replace(file=f"{lane}/{finding.file}") for finding in found.findings]
        whole.files, whole.bytes = whole.files + found.files, whole.bytes + found.bytes
        whole.records += found.records
    return _report(home, whole, findings + _marks(home, files))


def _pause() -> None:
    time.sleep(PAUSE_S)


def _checkpoints(config: GatewayConfig, files: Files) -> list[Finding]:
    checkpoints = checkpoints_of(config, files)
    findings = []
    for position in checkpoints.positions():
        path = checkpoints.path(position)
        try:
            checkpoints.read(position)
        except FileNotFoundError:
            continue  # a newer one has just taken its place
        except (FrameRefused, OSError):
            findings.append(Finding("checkpoint", path.name, 0, files.size(path)))
    return findings


def _marks(home: Path, files: Files) -> list[Finding]:
    try:
        columns.decode_state(frame.decode(files.read(home / MARKS)).body)
    except FileNotFoundError:
        return []
    except (FrameRefused, OSError):
        return [Finding("marks", MARKS, 0, files.size(home / MARKS))]
    return []


def _report(directory: Path, found: Surveyed, findings: list[Finding]) -> dict[str, Any]:
    return {
        "directory": str(directory),
        "files": found.files,
        "bytes": found.bytes,
        "records": found.records,
        "damage": [_explained(finding) for finding in findings],
    }


def _explained(finding: Finding) -> dict[str, Any]:
    meaning, remedy = WORDS[finding.what]
    records = [finding.first, finding.last] if finding.last else None
    return {
        "what": finding.what,
        "file": finding.file,
        "bytes": [finding.begin, finding.end],
        "records": records,
        "meaning": meaning,
        "remedy": remedy,
    }
