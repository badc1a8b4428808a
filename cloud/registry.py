"""When the next version of a model is due, and what is in it. Pure.

| a model's statistics | its next version is due |
|---|---|
| are its first | SETTLE after they came, so that what comes together goes together |
| are a gateway's first, or `growth` times what the newest version was made of | likewise, but `min_interval` after it |
| are newer than the newest version's in any other way | `refresh` after it |
| are the newest version's, and that expires | after half of the time it is valid for |

Whoever has a gateway's token can make statistics up, so one gateway's part is bounded:

1. In each group of features a gateway counts for no more windows than the median gateway there (the lower of two). Of n
   gateways that have a group, one is then at most 2 / (n + 1) of it. That bounds its share, not how far off it may be:
   with few gateways one that lies still shifts the mean. What is learnt on a gateway is never replaced by a model.
2. Groups that most gateways have come first; what does not fit into `max_bytes` is left out: nobody crowds others out.
3. A model has at most one version each `min_interval`, whatever its statistics do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from cloud.config import Models
from cloud.store import Learnt, Published
from cloud.store.answers import VersionView
from learning import baseline
from learning.baseline import MAX_ENTRIES, Baseline, Features
from learning.statistics import Statistics, merge, pack, unpack
from protocol.messages import Moments

SETTLE = 2 * 10**9
"""In ns: gateways that start together send their statistics together."""
NEVER = (1 << 63) - 1


@dataclass(slots=True)
class Line:
    """One model: its newest version, and what was learnt since."""

    version: int = 0
    created: int = 0
    expires: int = 0
    made_of: int = 0  # windows
    windows: dict[str, int] = field(default_factory=dict)  # behind the newest statistics, by gateway
    changed: int = NEVER  # since when there are statistics that no version was made of
    pressing: bool = False  # some of them are a gateway's first

    @property
    def weight(self) -> int:
        """Windows that count."""
        return sum(_capped(self.windows).values())


class Registry:
    """All models by name."""

    def __init__(self, settings: Models) -> None:
        self.settings = settings
        self._lines: dict[str, Line] = {}

    @property
    def versions(self) -> dict[str, int]:
        """The newest version of each model that has one."""
        return {name: line.version for name, line in self._lines.items() if line.version}

    def published(self, version: Published) -> None:
        """Note a version: one just made, or one of before this start."""
        line = self._line(version.name)
        line.version, line.created, line.expires = version.version, version.created, version.expires
        line.made_of = version.windows

    def learnt(self, model: str, gateway: str, windows: int, stored: int) -> None:
        """Note a gateway's newest statistics; said again at a start, those of a time before the version are in it."""
        line = self._line(model)
        first = not line.windows.get(gateway)
        line.windows[gateway] = windows
        if windows and stored >= line.created:
            line.changed = min(line.changed, stored)
            line.pressing |= first

    def due(self) -> int:
        """When (ns) the next version of any model is due; NEVER if nothing waits."""
        return min(map(self._due, self._lines.values()), default=NEVER)

    def tick(self, now: int) -> list[str]:
        """Give the models whose next version is due; what is stored of each by now is what it is to be made of."""
        names = [name for name, line in self._lines.items() if self._due(line) <= now]
        for name in names:
            self._lines[name].changed = NEVER
            self._lines[name].pressing = False
            self._lines[name].expires = 0
        return names

    def again(self, model: str, now: int) -> None:
        """Note that a version could not be made: try again."""
        line = self._line(model)
        line.changed, line.pressing = now, True

    def weight(self, model: str) -> int:
        """Windows that a version made now is made of."""
        return self._line(model).weight

    def next_version(self, model: str) -> int:
        """Give the number that a version made now has."""
        return self._line(model).version + 1

    def _line(self, model: str) -> Line:
        return self._lines.setdefault(model, Line())

    def _due(self, line: Line) -> int:
        renewal = line.created + (line.expires - line.created) // 2 if line.expires else NEVER
        if line.changed == NEVER:
            return renewal
        settled = line.changed + SETTLE
        if not line.version:
            return settled
        grown = line.weight >= line.made_of * self.settings.growth
        wait = self.settings.min_interval if line.pressing or grown else self.settings.refresh
        return min(max(settled, line.created + wait), renewal)


def before(versions: Sequence[VersionView]) -> VersionView | None:
    """Give the version that a model goes back to: the newest with another content than its newest; None if none is."""
    newest = max(versions, key=lambda one: one.version, default=None)
    others = [one for one in versions if newest is not None and one.digest != newest.digest]
    return max(others, key=lambda one: one.version, default=None)


def combined(parts: Iterable[Learnt], max_bytes: int) -> Baseline:
    """Merge what gateways learnt into one baseline, of about `max_bytes` at most, by the rules above."""
    groups: dict[Features, dict[str, Statistics]] = {}
    for part in parts:
        for entry in part.entries:
            of_group = groups.setdefault(tuple(entry.features), {})
            statistics = unpack(entry)
            own = of_group.get(part.gateway)
            of_group[part.gateway] = merge(own, statistics) if own else statistics
    chosen = sorted(groups, key=lambda features: (-len(groups[features]), features))[:MAX_ENTRIES]
    return baseline.merged(moments for features in _fitting(chosen, max_bytes) for moments in _fair(features, groups))


def _fitting(chosen: list[Features], max_bytes: int) -> Iterator[Features]:
    for features in chosen:
        size = len(features)
        max_bytes -= 8 * size * (size + 1) + sum(len(name.encode()) + 5 for name in features) + 80
        if max_bytes < 0:
            return
        yield features


def _fair(features: Features, groups: Mapping[Features, Mapping[str, Statistics]]) -> Iterator[Moments]:
    """Give each gateway's statistics of a group, none with more windows than the median's."""
    of_group = groups[features]
    weights = _capped({gateway: round(one.weight) for gateway, one in of_group.items()})
    for gateway, weight in weights.items():
        one = of_group[gateway]
        yield pack(features, Statistics(float(weight), one.mean, one.scatter * (weight / one.weight)))


def _capped(weights: Mapping[str, int]) -> dict[str, int]:
    """Leave out those of nothing, and cap the others at their median, the lower of two; by gateway."""
    some = {gateway: weight for gateway, weight in sorted(weights.items()) if weight}
    ordered = sorted(some.values())
    most = ordered[(len(ordered) - 1) // 2] if ordered else 0
    return {gateway: min(weight, most) for gateway, weight in some.items()}
