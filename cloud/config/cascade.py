"""`[[cascade]]`: a larger model that gateways may ask; what may be said of it, and what contradicts itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase

from protocol.settings import NAME, Contradiction, Section


class Cascade(Section, frozen=True):
    """A larger model that answers for one that gateways have."""

    model: str  # the gateways' model: a training's name, or what was pushed
    large: str  # an installed model's name (`learning.installed`), or with a "/" in it the path of a model's bytes
    gateways: tuple[str, ...] = ("*",)

    @property
    def file(self) -> str:
        """The path, if it is one."""
        return self.large if "/" in self.large else ""

    def answers(self, gateway: str) -> bool:
        """Whether this gateway is answered."""
        return any(fnmatchcase(gateway, pattern) for pattern in self.gateways)


def cascade_contradictions(cascades: Iterable[Cascade], *, bus: bool) -> Iterator[Contradiction]:
    """Say what is wrong with cascades; `bus`: whether there is one."""
    models: set[str] = set()
    for number, cascade in enumerate(cascades):
        key = f"cascade[{number}]"
        if not bus:
            yield "bus.url", None, "the broker over which [[cascade]] reaches its gateways"
        if not NAME.fullmatch(cascade.model) or cascade.model in models:
            yield f"{key}.model", cascade.model, "a model's name, and no other [[cascade]]'s"
        if not cascade.large:
            yield f"{key}.large", cascade.large, 'the name of an installed model, or a path such as "./large.fg"'
        models.add(cascade.model)
