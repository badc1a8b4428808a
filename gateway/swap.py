"""Which model is taken, part by part, and which is refused, and why. Pure: it returns what is left to do.

Rules:

1. The signature is checked with the pinned key before anything is parsed. Without a key nothing is taken.
2. Versions of a model only grow. What is older than the highest version seen is refused, and so is another content
   under that version; the same version is taken again as long as it does not score: that is how a download resumes.
3. One model is downloaded at a time, one part asked for at a time. A newer version replaces an older one that is under
   way. What has come of a content is kept, by its digest, until another download begins.
4. Silence is answered by asking again, ATTEMPTS times, ever slower; then the model is refused as `silent`, rests for
   REST_NS, and is asked for anew. While the bus is away nothing is asked and no time runs.
5. A part counts only if it was asked for: any other changes nothing, and is refused unless it is merely late. A content
   counts only as a whole: its digest is that of the manifest, and the schema's check accepts it.
6. A refusal is counted each time, and reported once per model, version and reason.
7. No manifest, however signed, changes what scores: only a whole content does, by Apply.

| reason | why | afterwards |
|---|---|---|
| unpinned | no key is pinned | |
| signature, manifest, gateway | see `protocol.manifest` | |
| unknown | no [[score]] has this name, and it says no classes | |
| schema | a content we cannot read | |
| older | see rule 2 | |
| expired | its time was over before all of it was here | |
| size | larger than `models.max_bytes` | |
| chunk | a part that was not asked for, or is none | the part is dropped, the download goes on |
| digest | all parts are here, and they are something else | from the beginning, after a rest |
| silent, missing | the cloud did not answer, or has no such content | goes on after a rest |
| content, or another of its schema's reader | what the manifest announced may not score here | never asked for again |

| may fill | bound | answer when full |
|---|---|---|
| the content | `models.max_bytes` | refused as `size` before it is asked for |
| manifests that wait | one per [[score]] | the newer one replaces |
| refusals remembered | MAX_REPORTED | the oldest is forgotten, and would be reported again |
| contents once asked for | MAX_ASKED_FOR | the oldest is forgotten, and a late part of it would be counted |
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from gateway.records import NEVER
from protocol.errors import ModelRefused
from protocol.manifest import Chunk, Manifest, Want, digest_of, read_chunk, unseal

ATTEMPTS = 6
FIRST_WAIT_NS = 5 * 10**9
LONGEST_WAIT_NS = 60 * 10**9
"""A part is asked for again after 5, 10, 20, 40, 60 and 60 s without an answer: 195 s in all."""

REST_NS = 600 * 10**9
"""A cloud that is restarted or moved is back by then; six small messages in 13 minutes burden nobody."""

MAX_REPORTED = 256
MAX_ASKED_FOR = 16


class Ask(NamedTuple):
    """Instruction: publish this want."""

    want: Want


class Apply(NamedTuple):
    """Instruction: let this model score from here on."""

    sealed: bytes
    manifest: Manifest
    content: bytes


class Report(NamedTuple):
    """Instruction: say up that this version of a model was refused."""

    model: str
    version: int
    reason: str
    digest: str


Instruction = Ask | Apply | Report

Key = TypeVar("Key")

Check = Callable[[bytes], object]
"""Reads a content; ModelRefused if it may not score."""


class Terms(NamedTuple):
    """What a gateway takes: its name, the key it pins, the models it has a use for, and how to read their contents."""

    gateway: str
    public_key: bytes  # b"": none is pinned
    names: frozenset[str]
    checks: Mapping[str, Check]  # by schema
    chunk: int  # bytes asked for at once
    max_bytes: int
    anywhere: frozenset[str] = frozenset()  # schemas that are of use under any name


@dataclass(slots=True)
class _Offer:
    """A manifest that was accepted, and is not fulfilled yet."""

    sealed: bytes
    manifest: Manifest
    rests_until: int = 0


class Swap:
    """See the rules above. `seen` are the manifests of the highest versions known, `scoring` those of what scores."""

    def __init__(self, terms: Terms, seen: Iterable[Manifest] = (), scoring: Iterable[Manifest] = ()) -> None:
        self.terms = terms
        self.refused: dict[str, int] = {}  # by reason
        self._scoring = {manifest.name: manifest for manifest in scoring}
        self._seen = dict(self._scoring)
        for manifest in seen:
            self._note(manifest)
        self._hopeless: dict[str, Manifest] = {}  # by name: a content that may not score
        self._offers: dict[str, _Offer] = {}  # by name, in the order in which they came
        self._current: _Offer | None = None
        self._digest, self._content = "", bytearray()  # what has come of which content
        self._asked_for: dict[str, None] = {}  # digests, oldest first
        self._missing = False  # the cloud's last answer was that it has no such content
        self._asked = 0  # how often for the part that is under way
        self._ask_at = NEVER
        self._connected = False
        self._reported: dict[tuple[str, int, str], None] = {}

    # Events.

    def connected(self, now: int) -> list[Instruction]:
        """Note that the bus is there: what was under way goes on at once, and so does what rested."""
        self._connected = True
        for offer in self._offers.values():
            offer.rests_until = 0
        return self._begin(now)

    def lost(self) -> None:
        """Note that the bus is away; what has come is kept."""
        self._connected, self._current, self._ask_at = False, None, NEVER

    def manifest(self, model: str, sealed: bytes, now: int) -> list[Instruction]:
        """Take a sealed manifest that came in under the name of `model`; an empty one takes nothing back."""
        if not sealed:
            return []
        try:
            manifest = self._unseal(sealed)
        except ModelRefused as error:
            return self._refuse(model if model in self.terms.names else "", 0, error.reason, "")
        if reason := self._objection(manifest, now):
            return self._refuse(manifest.name, manifest.version, reason, manifest.digest)
        if any(_is_same(manifest, known.get(manifest.name)) for known in (self._scoring, self._hopeless)):
            return []
        return self._accept(_Offer(sealed, manifest), now)

    def chunk(self, data: bytes, now: int) -> list[Instruction]:
        """Take a part."""
        try:
            chunk = read_chunk(data)
        except ModelRefused:
            return self._refuse_part()
        offer = self._current
        if offer is None or chunk.digest != self._digest:
            return [] if self._is_known(chunk.digest) else self._refuse_part()
        if chunk.offset != len(self._content) or len(chunk.data) > self._want(offer).size:
            return [] if self._is_repeated(chunk) else self._refuse_part()
        self._missing = not chunk.data
        if self._missing:  # asked again when it is due
            return []
        self._content += chunk.data
        self._asked = 0
        return self._complete(offer, now) if len(self._content) == offer.manifest.size else self._ask(offer, now)

    def tick(self, now: int) -> list[Instruction]:
        """Let time pass: ask again, or give up for a while."""
        offer = self._current
        if offer is None:
            return self._begin(now)
        if now < self._ask_at:
            return []
        if _is_expired(offer.manifest, now):
            return self._drop(offer, "expired", now)
        if self._asked >= ATTEMPTS:
            return self._rest(offer, "missing" if self._missing else "silent", now)
        return self._ask(offer, now)

    def awaits(self, schema: str) -> bool:
        """Whether a content of this schema is on its way."""
        return any(offer.manifest.schema == schema for offer in self._offers.values())

    def due(self) -> int:
        """When (ns) `tick` has something to do; NEVER if nothing waits for time."""
        if not self._connected:
            return NEVER
        if self._current is not None:
            return self._ask_at
        return min((offer.rests_until for offer in self._offers.values()), default=NEVER)

    # Manifests.

    def _unseal(self, sealed: bytes) -> Manifest:
        if not self.terms.public_key:
            raise ModelRefused("unpinned")
        return unseal(sealed, self.terms.public_key, gateway=self.terms.gateway)

    def _objection(self, manifest: Manifest, now: int) -> str:
        if manifest.name not in self.terms.names and manifest.schema not in self.terms.anywhere:
            return "unknown"
        if manifest.schema not in self.terms.checks:
            return "schema"
        if self._is_older(manifest):
            return "older"
        if _is_expired(manifest, now) and not _is_same(manifest, self._scoring.get(manifest.name)):
            return "expired"
        return "size" if manifest.size > self.terms.max_bytes else ""

    def _is_older(self, manifest: Manifest) -> bool:
        seen = self._seen.get(manifest.name)
        if seen is None or manifest.version > seen.version:
            return False
        return manifest.version < seen.version or manifest.digest != seen.digest

    def _note(self, manifest: Manifest) -> None:
        seen = self._seen.get(manifest.name)
        if seen is None or manifest.version > seen.version:
            self._seen[manifest.name] = manifest

    def _accept(self, offer: _Offer, now: int) -> list[Instruction]:
        name = offer.manifest.name
        self._note(offer.manifest)
        before = self._offers.get(name)
        if before is not None and before.manifest == offer.manifest:
            before.rests_until = 0  # whoever announced it again is awake
            return self._begin(now)
        self._offers[name] = offer
        if self._current is before:
            self._current = None
        return self._begin(now)

    # The download.

    def _begin(self, now: int) -> list[Instruction]:
        """Ask for the first model that does not rest, unless one is under way."""
        ready = (offer for offer in self._offers.values() if offer.rests_until <= now)
        if not self._connected or self._current is not None or (offer := next(ready, None)) is None:
            return []
        if self._digest != offer.manifest.digest or len(self._content) >= offer.manifest.size:
            self._digest, self._content = offer.manifest.digest, bytearray()
        self._current, self._asked, self._missing = offer, 0, False
        _remember(self._asked_for, self._digest, MAX_ASKED_FOR)
        return self._ask(offer, now)

    def _want(self, offer: _Offer) -> Want:
        have = len(self._content)
        return Want(self._digest, have, min(self.terms.chunk, offer.manifest.size - have))

    def _ask(self, offer: _Offer, now: int) -> list[Instruction]:
        self._ask_at = now + min(FIRST_WAIT_NS << self._asked, LONGEST_WAIT_NS)
        self._asked += 1
        return [Ask(self._want(offer))]

    def _complete(self, offer: _Offer, now: int) -> list[Instruction]:
        manifest, content = offer.manifest, bytes(self._content)
        self._content = bytearray()
        if digest_of(content) != manifest.digest:
            return self._rest(offer, "digest", now)
        if _is_expired(manifest, now):
            return self._drop(offer, "expired", now)
        try:
            self.terms.checks[manifest.schema](content)
        except ModelRefused as error:
            self._hopeless[manifest.name] = manifest
            return self._drop(offer, error.reason, now)
        self._scoring[manifest.name] = manifest
        return [Apply(offer.sealed, manifest, content), *self._next(offer, now)]

    def _drop(self, offer: _Offer, reason: str, now: int) -> list[Instruction]:
        manifest = offer.manifest
        return [*self._refuse(manifest.name, manifest.version, reason, manifest.digest), *self._next(offer, now)]

    def _next(self, offer: _Offer, now: int) -> list[Instruction]:
        """Go on with another model, this one being settled."""
        del self._offers[offer.manifest.name]
        self._current, self._ask_at = None, NEVER
        return self._begin(now)

    def _rest(self, offer: _Offer, reason: str, now: int) -> list[Instruction]:
        manifest = offer.manifest
        offer.rests_until = now + REST_NS
        self._current, self._ask_at = None, NEVER
        return [*self._refuse(manifest.name, manifest.version, reason, manifest.digest), *self._begin(now)]

    # Parts that do not belong, and refusals.

    def _is_known(self, digest: str) -> bool:
        """Whether a part of this content is merely late."""
        return digest in self._asked_for or any(digest == manifest.digest for manifest in self._scoring.values())

    def _is_repeated(self, chunk: Chunk) -> bool:
        end = chunk.offset + len(chunk.data)
        return end <= len(self._content) and self._content[chunk.offset : end] == chunk.data

    def _refuse_part(self) -> list[Instruction]:
        about = self._current.manifest if self._current is not None else None
        if about is None:
            return self._refuse("", 0, "chunk", "")
        return self._refuse(about.name, about.version, "chunk", about.digest)

    def _refuse(self, model: str, version: int, reason: str, digest: str) -> list[Instruction]:
        """Count it; report it if it is new, and of a model that has a name."""
        self.refused[reason] = self.refused.get(reason, 0) + 1
        key = (model, version, reason)
        if not model or key in self._reported:
            return []
        _remember(self._reported, key, MAX_REPORTED)
        return [Report(model, version, reason, digest)]


def _remember(memory: dict[Key, None], key: Key, most: int) -> None:
    memory.pop(key, None)
    while len(memory) >= most:
        del memory[next(iter(memory))]
    memory[key] = None


def _is_same(manifest: Manifest, known: Manifest | None) -> bool:
    return known is not None and (manifest.version, manifest.digest) == (known.version, known.digest)


def _is_expired(manifest: Manifest, now: int) -> bool:
    return 0 < manifest.expires <= now
