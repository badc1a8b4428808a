"""What a training with `privacy` spends: a round's merge is a noisy release, charged to a ledger that only grows. Pure.

Rules (the arithmetic is `learning.privacy`):

1. The ledger is the training's, not a run's: it is in `State`, outlives restarts, runs and other settings, and is never
   put back. A release is charged as it is made, in the same decision that keeps what it made.
2. Hidden is what one gateway's updates say, whatever else they could have said: who answered when is not. With a quorum
   or staleness a gateway that is missing lets another one into its place and changes when others work, so no bound
   holds for being there or not; this one holds for any order of answers.
3. Every gateway is charged with every release, whether it was asked, late or silent: nothing is taken off for chance.
4. Of one gateway one update counts in a release, the newest, shortened to `clip`; all count the same, however many
   windows they are of and however late. The sum is divided by `goal`, which is fixed before the round.
5. A round that the rest does not cover is not begun: the run goes on to its trial, and ends as BUDGET. Nor is a run
   whose first round it does not cover.
"""

from __future__ import annotations

from typing import NamedTuple

from numpy.random import Generator

from cloud.config.training import Training as Settings
from learning import privacy
from learning.aggregation import Admitted, Offer
from learning.parameters import Flat
from learning.privacy import EXCHANGED, Ledger, Privacy

BUDGET = "budget"


class Spent(NamedTuple):
    """What a training may spend, what it has spent so far, in how many rounds, and how many more the rest covers."""

    epsilon: float
    delta: float
    spent: float
    rounds: int
    left: int


def terms(settings: Settings) -> Privacy | None:
    """Give what is asked of a training's releases; None if they need no noise."""
    how = settings.privacy
    return Privacy(how.clip, how.noise, how.epsilon, how.delta, EXCHANGED) if how is not None else None


def covers(settings: Settings, ledger: Ledger) -> bool:
    """Whether one more round may be merged."""
    how = terms(settings)
    return how is None or privacy.affordable(how, ledger)


def lacking(settings: Settings, ledger: Ledger) -> str:
    """Say why no run may begin, "" if one may."""
    how = terms(settings)
    if how is None or privacy.affordable(how, ledger):
        return ""
    spent = privacy.epsilon(ledger, how.delta)
    return f"its privacy budget is spent: epsilon {spent:.3g} of {how.epsilon:g}, another round would go beyond it"


def spent(settings: Settings, ledger: Ledger) -> Spent | None:
    """Say how a budget stands; None without one."""
    how = terms(settings)
    if how is None:
        return None
    so_far = privacy.epsilon(ledger, how.delta)
    return Spent(how.epsilon, how.delta, so_far, ledger.releases, privacy.releases(how, ledger))


def once_each(offers: list[Offer]) -> list[Offer]:
    """Give the newest offer of each gateway."""
    newest: dict[str, Offer] = {}
    for offer in sorted(offers, key=lambda one: -one.stale):
        newest[offer.gateway] = offer
    return [newest[gateway] for gateway in sorted(newest)]


def release(
    settings: Settings, admitted: Admitted, ledger: Ledger, rng: Generator | None
) -> tuple[Flat | None, Ledger]:
    """Give what a round's updates come to, with noise, and the ledger after it; None where the budget is too small."""
    how = terms(settings)
    assert how is not None
    assert rng is not None, "a training with privacy needs a source of chance"
    return privacy.release(admitted, settings.goal, how, ledger, rng)


def warning(settings: Settings) -> str:
    """Say what an operator should know of a training's privacy, or nothing."""
    how = terms(settings)
    return privacy.warning(settings.goal, how) if how is not None else ""


def beforehand(settings: Settings) -> list[str]:
    """Say what a training's budget covers, and what an operator should know, a line each."""
    budget, worry = spent(settings, Ledger()), warning(settings)
    if budget is None:
        return []
    covers = f"epsilon {budget.epsilon:g} (delta {budget.delta:g}) covers {budget.left:,} rounds"
    return [covers, f"warning: {worry}"] if worry else [covers]
