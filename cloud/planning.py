"""What is known of the fleet, and the plan made of it: what a job asks, and where each part would be computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from cloud.fleet import Fleet
from cloud.jobs import MAX_PARTS, Bounds, Job, Question, Spec, chosen, learnt, question
from cloud.placement import DEFAULT_UPLINK, Known, Plan, plan, slowed_by
from cloud.store import MAX_ROWS, Store
from learning.work import registry
from protocol import jobs as wire
from protocol.bus import Subscription
from protocol.errors import JobRefused, TaskRefused
from protocol.topics import gateway_of


class Planning:
    """Plans by what the store has of gateways, what they say of themselves (MAX_PARTS of them), and how jobs went."""

    def __init__(
        self,
        store: Store,
        fleet: Fleet,
        labels: Mapping[str, tuple[str, ...]],
        bounds: Bounds,
        jobs: Callable[[], Mapping[str, Job]],
    ) -> None:
        self._store, self._fleet, self._labels, self._bounds, self._jobs = store, fleet, labels, bounds, jobs
        self._resources: dict[str, wire.Resources] = {}

    async def hear(self, heard: Subscription) -> None:
        """Take in what gateways say, for ever."""
        async for message in heard:
            name = gateway_of(message.topic) or ""
            found = wire.read_status(message.payload).resources
            if found is not None and (self._fleet.knows(name) or len(self._resources) < MAX_PARTS):
                self._resources[name] = found  # a new one may say what it has before it has called

    async def plan(self, spec: Spec, now: int) -> tuple[Question, Plan]:
        """Give what is asked, and where it would be computed; JobRefused for what cannot be."""
        try:
            asked = question(spec, registry.find(spec.work), now)
        except TaskRefused as refused:
            raise JobRefused(refused.reason, refused.detail) from None
        names = chosen(spec, (one.name for one in self._fleet.views()), self._labels)
        if not names:
            raise JobRefused("gateways", f"no gateway that has called matches {', '.join(spec.gateways)}")
        matching = await self._matching(spec.series) if len(names) <= MAX_ROWS else {}
        ended = learnt.recent(self._jobs())
        known = list(self._known(names, matching, ended))
        if spec.windows != "never" and registry.of_windows(registry.find(spec.work)) is not None:
            known = [one._replace(stored=await self._stored(one, asked)) for one in known]
        return asked, plan(asked, known, self._bounds, now, learnt.merging(ended, spec.work))

    async def _stored(self, known: Known, asked: Question) -> int:
        """Give when the oldest window begins that can stand for what a gateway has not; 0 if its readings will do."""
        here = known.resources.oldest if known.resources else 0
        if known.online and here <= asked.start:
            return 0
        found = [await self._store.oldest(known.name, pattern) for pattern in asked.series]
        return min((one for one in found if one), default=0)

    async def _matching(self, patterns: Iterable[str]) -> dict[str, int]:
        """Count series that match, by gateway; of so many as one answer of the store holds."""
        found: dict[str, set[int]] = {}
        for pattern in patterns:
            for one in await self._store.series(None, pattern, 0, MAX_ROWS):
                found.setdefault(one.gateway, set()).add(one.id)
        return {gateway: len(ids) for gateway, ids in found.items()}

    def _known(self, names: Iterable[str], matching: Mapping[str, int], ended: list[Job]) -> Iterator[Known]:
        views = {one.name: one for one in self._fleet.views()}
        for name in names:
            one, found = views[name], self._resources.get(name, wire.Resources())
            stored = (one.online, one.readings, one.series, matching.get(name, 0))
            waiting = learnt.waiting(ended, name, found.uplink or DEFAULT_UPLINK, slowed_by(found))
            yield Known(name, *stored, found, waiting)
