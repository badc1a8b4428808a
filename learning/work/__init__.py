"""Work over a fleet: what is computed where the readings are, and merged. One file each; see `contract`."""

from __future__ import annotations

from learning.work.contract import GROUP, Batch, Work

__all__ = ["GROUP", "Batch", "Work"]
