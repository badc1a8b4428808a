"""What the cloud may ask this gateway to compute: `queue` decides what runs next, `contract` says what a task is given.

A task runs in a child process (`gateway.worker`), on raw readings of the journal (`gateway.past`); what it answers goes
up in the lane `results`. By name: those of `gateway.worker`, work over a fleet (`work`, `learning.work`), and entry
points of the group `fieldgate.tasks`.
"""

from __future__ import annotations

from gateway.tasks.contract import Answer, Computation, Past
from gateway.tasks.queue import Cancel, Instruction, Queue, Run, Say, Terms

__all__ = ["Answer", "Cancel", "Computation", "Instruction", "Past", "Queue", "Run", "Say", "Terms"]
