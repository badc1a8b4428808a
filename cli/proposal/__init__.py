"""From what a broker carries to a proposed configuration. Pure: messages and time are arguments.

    ear ▶ dialects, families (by look and shape of topics) ▶ proposal (tried on what was heard) ▶ text

Nothing is proposed that has not been tried: the gateway's own `decode` reads every kept message with the proposed
sources, and a topic whose messages give no reading is listed as left out, with the reason.
"""

from __future__ import annotations

from cli.proposal.ear import Ear
from cli.proposal.propose import Proposal, propose
from cli.proposal.text import Settings, configuration, summary

__all__ = ["Ear", "Proposal", "Settings", "configuration", "propose", "summary"]
