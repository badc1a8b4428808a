"""Which model is taken and which is refused, as timetables; times in seconds stand for ns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import msgspec
import numpy as np
import pytest

from gateway.records import NEVER
from gateway.swap import ATTEMPTS, MAX_REPORTED, REST_NS, Apply, Ask, Instruction, Report, Swap, Terms
from learning import baseline
from protocol import manifest
from protocol.errors import ModelRefused
from protocol.identity import SIGNATURE_SIZE, Signer
from protocol.manifest import CONTEXT, MAX_CHUNK, Chunk, Manifest, Want, digest_of

S = 10**9
SIGNER = Signer.from_seed(bytes(range(32)))
STRANGER = Signer.from_seed(bytes(32))
SCHEMA = baseline.SCHEMA
OLD, NEW = b"old content", b"the new content"


def read(content: bytes) -> None:
    """Take any content but one."""
    if content.startswith(b"bad"):
        raise ModelRefused("content")


TERMS = Terms("barn", SIGNER.public, frozenset({"pumps", "fans"}), {SCHEMA: read}, chunk=6, max_bytes=64)


def a_manifest(version: int = 1, content: bytes = NEW, **changes: Any) -> Manifest:
    said = Manifest("pumps", version, len(content), digest_of(content), SCHEMA, 0, gateway="barn")
    return msgspec.structs.replace(said, **changes)


def sealed(said: Manifest) -> bytes:
    return manifest.seal(said, SIGNER)


def part(content: bytes, first: int, last: int, digest: str = "") -> bytes:
    return manifest.write(Chunk(digest or digest_of(content), first, content[first:last]))


class Gateway:
    """A machine whose bus is there, and what it was told to do."""

    def __init__(self, terms: Terms = TERMS, *, scoring: Manifest | None = None, seen: Manifest | None = None) -> None:
        self.swap = Swap(terms, [seen] if seen else [], [scoring] if scoring else [])
        assert self.swap.connected(0) == []

    def announced(self, at: float, said: Manifest, model: str = "pumps") -> list[Instruction]:
        return self.swap.manifest(model, sealed(said), round(at * S))

    def part(self, at: float, content: bytes, first: int, last: int) -> list[Instruction]:
        return self.swap.chunk(part(content, first, last), round(at * S))

    def download(self, said: Manifest, content: bytes, at: float = 0) -> list[Instruction]:
        """Announce a model, answer all wants, and give what else it did."""
        done: list[Instruction] = []
        left = self.announced(at, said)
        while left:
            match left.pop(0):
                case Ask(Want(digest, offset, size)):
                    left += self.swap.chunk(part(content, offset, offset + size, digest), round(at * S))
                case other:
                    done.append(other)
        return done


def asks(content: bytes, offset: int, size: int) -> Ask:
    return Ask(Want(digest_of(content), offset, size))


def applies(said: Manifest, content: bytes) -> Apply:
    return Apply(sealed(said), said, content)


def refuses(said: Manifest, reason: str) -> Report:
    return Report(said.name, said.version, reason, said.digest)


def test_a_model_is_asked_for_part_by_part_and_applied_as_a_whole() -> None:
    gateway, said = Gateway(), a_manifest()
    assert gateway.announced(0, said) == [asks(NEW, 0, 6)]
    assert gateway.part(1, NEW, 0, 6) == [asks(NEW, 6, 6)]
    assert gateway.part(2, NEW, 6, 12) == [asks(NEW, 12, 3)]
    assert gateway.part(3, NEW, 12, 15) == [applies(said, NEW)]
    assert (gateway.swap.due(), gateway.swap.refused) == (NEVER, {})


def test_a_cloud_may_answer_with_less_than_was_asked_for() -> None:
    gateway, said = Gateway(), a_manifest()
    gateway.announced(0, said)
    assert gateway.part(1, NEW, 0, 1) == [asks(NEW, 1, 6)]
    assert gateway.part(2, NEW, 1, 3) == [asks(NEW, 3, 6)]
    assert gateway.part(3, NEW, 3, 9) == [asks(NEW, 9, 6)]
    assert gateway.part(4, NEW, 9, 15) == [applies(said, NEW)]


def test_what_scores_is_not_taken_again_and_not_refused_however_often_it_is_announced() -> None:
    gateway, said = Gateway(), a_manifest(expires=10 * S)
    assert gateway.download(said, NEW) == [applies(said, NEW)]
    assert gateway.announced(5, said) == []
    assert gateway.announced(50, said) == [], "a model scores on when its time to be taken is over"
    assert gateway.announced(50, msgspec.structs.replace(said, created=1)) == [], "nor when it is announced anew"
    assert gateway.swap.refused == {}


def test_an_announcement_that_is_withdrawn_changes_nothing() -> None:
    assert Gateway().swap.manifest("pumps", b"", 0) == []


REFUSED: dict[str, tuple[Manifest, str]] = {
    "no [[score]] has its name": (a_manifest(name="valves"), "unknown"),
    "made for another": (a_manifest(gateway="mill"), "gateway"),
    "a schema of tomorrow": (a_manifest(schema="baseline/2"), "schema"),
    "an older version": (a_manifest(3), "older"),
    "the same version, another content": (a_manifest(4), "older"),
    "its time is over": (a_manifest(5, expires=7 * S), "expired"),
    "too large": (a_manifest(5, size=65), "size"),
}


@pytest.mark.parametrize(("said", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_a_signed_manifest_is_refused_by_reason(said: Manifest, reason: str) -> None:
    gateway = Gateway(scoring=a_manifest(4, OLD))
    digest, name, version = (said.digest, said.name, said.version) if reason != "gateway" else ("", "pumps", 0)
    assert gateway.announced(7, said) == [Report(name, version, reason, digest)]
    assert gateway.swap.refused == {reason: 1}
    assert gateway.swap.due() == NEVER
    newer = a_manifest(5)
    assert gateway.download(newer, NEW, 8) == [applies(newer, NEW)], "a refusal is in nobody's way"


def test_without_a_key_nothing_is_taken() -> None:
    gateway = Gateway(TERMS._replace(public_key=b""))
    assert gateway.announced(0, a_manifest()) == [Report("pumps", 0, "unpinned", "")]
    assert gateway.announced(1, a_manifest(2)) == []
    assert gateway.swap.refused == {"unpinned": 2}


def test_what_another_key_signed_is_not_read() -> None:
    gateway = Gateway()
    assert gateway.swap.manifest("pumps", manifest.seal(a_manifest(), STRANGER), 0) == [
        Report("pumps", 0, "signature", "")
    ]
    assert gateway.swap.manifest("a name made up", manifest.seal(a_manifest(), STRANGER), 0) == []
    assert gateway.swap.refused == {"signature": 2}


def test_a_refusal_is_counted_each_time_and_reported_once() -> None:
    gateway, said = Gateway(), a_manifest(schema="x")
    assert gateway.announced(0, said) == [refuses(said, "schema")]
    assert gateway.announced(1, said) == []
    later = a_manifest(2, schema="x")
    assert gateway.announced(2, later) == [refuses(later, "schema")]
    assert gateway.swap.refused == {"schema": 3}


def test_only_so_many_refusals_are_remembered() -> None:
    gateway, first = Gateway(), a_manifest(schema="x")
    for version in range(1, MAX_REPORTED + 2):
        assert gateway.announced(0, a_manifest(version, schema="x"))
    assert gateway.announced(1, first) == [refuses(first, "schema")]
    assert len(gateway.swap._reported) == MAX_REPORTED


def test_the_highest_version_seen_counts_though_its_content_is_lost() -> None:
    seen = a_manifest(7)
    gateway = Gateway(seen=seen)
    older = a_manifest(6)
    assert gateway.announced(0, older) == [refuses(older, "older")]
    assert gateway.download(seen, NEW) == [applies(seen, NEW)]


def test_a_newer_version_replaces_an_older_one_that_is_under_way() -> None:
    gateway, old, new = Gateway(), a_manifest(1, OLD), a_manifest(2)
    gateway.announced(0, old)
    gateway.part(1, OLD, 0, 6)
    assert gateway.announced(2, new) == [asks(NEW, 0, 6)]
    assert gateway.part(3, OLD, 6, 11) == [], "it was on its way"
    assert gateway.announced(4, old) == [refuses(old, "older")]
    assert gateway.part(5, NEW, 0, 6) == [asks(NEW, 6, 6)]
    assert gateway.swap.refused == {"older": 1}


def test_one_model_is_downloaded_after_the_other() -> None:
    gateway, pumps, fans = Gateway(), a_manifest(1, OLD), a_manifest(9, NEW, name="fans")
    assert gateway.announced(0, pumps) == [asks(OLD, 0, 6)]
    assert gateway.announced(1, fans) == []
    gateway.part(2, OLD, 0, 6)
    assert gateway.part(3, OLD, 6, 11) == [applies(pumps, OLD), asks(NEW, 0, 6)]


def test_silence_is_answered_by_asking_again_ever_slower_and_at_last_by_a_rest() -> None:
    gateway, said = Gateway(), a_manifest()
    gateway.announced(0, said)
    gateway.part(0, NEW, 0, 6)
    asked: list[int] = []
    while gateway.swap.due() < NEVER and len(asked) < ATTEMPTS:
        asked.append(gateway.swap.due() // S)
        assert gateway.swap.tick(gateway.swap.due() - 1) == []
        done = gateway.swap.tick(gateway.swap.due())
        assert done == [asks(NEW, 6, 6)] if len(asked) < ATTEMPTS else [refuses(said, "silent")]
    assert asked == [5, 15, 35, 75, 135, 195]
    assert gateway.swap.due() == 195 * S + REST_NS
    assert gateway.swap.tick(gateway.swap.due()) == [asks(NEW, 6, 6)], "it goes on where it stood"
    assert gateway.part(800, NEW, 6, 12) == [asks(NEW, 12, 3)]
    assert gateway.part(801, NEW, 12, 15) == [applies(said, NEW)]


def silent(gateway: Gateway) -> None:
    for _ in range(ATTEMPTS):
        gateway.swap.tick(gateway.swap.due())


def test_a_rest_ends_early_when_the_model_is_announced_again() -> None:
    gateway, said = Gateway(), a_manifest()
    gateway.announced(0, said)
    silent(gateway)
    assert gateway.announced(200, said) == [asks(NEW, 0, 6)]
    assert gateway.swap.refused == {"silent": 1}


def test_a_rest_ends_early_when_the_bus_comes_back() -> None:
    gateway = Gateway()
    gateway.announced(0, a_manifest())
    silent(gateway)
    gateway.swap.lost()
    assert gateway.swap.connected(200 * S) == [asks(NEW, 0, 6)]


def test_another_model_is_not_kept_waiting_by_one_that_rests() -> None:
    gateway, pumps, fans = Gateway(), a_manifest(1, OLD), a_manifest(9, NEW, name="fans")
    gateway.announced(0, pumps)
    gateway.announced(0, fans)
    for _ in range(ATTEMPTS - 1):
        gateway.swap.tick(gateway.swap.due())
    assert gateway.swap.tick(gateway.swap.due()) == [refuses(pumps, "silent"), asks(NEW, 0, 6)]


def test_a_cloud_without_the_content_is_asked_again_and_then_called_that() -> None:
    gateway, said = Gateway(), a_manifest()
    gateway.announced(0, said)
    assert gateway.part(1, NEW, 0, 0) == []
    assert gateway.swap.tick(5 * S) == [asks(NEW, 0, 6)]
    assert gateway.part(6, NEW, 0, 0) == []
    for _ in range(ATTEMPTS - 2):
        gateway.swap.tick(gateway.swap.due())
    assert gateway.swap.tick(gateway.swap.due()) == [refuses(said, "missing")]


def test_a_download_goes_on_after_the_bus_was_away() -> None:
    gateway, said = Gateway(), a_manifest()
    gateway.announced(0, said)
    gateway.part(1, NEW, 0, 6)
    gateway.swap.lost()
    assert (gateway.swap.due(), gateway.swap.tick(10_000 * S)) == (NEVER, [])
    assert gateway.swap.connected(10_000 * S) == [asks(NEW, 6, 6)]
    assert gateway.announced(10_001, said) == []
    assert gateway.swap.due() == 10_005 * S


def test_a_model_that_expires_on_its_way_is_not_applied() -> None:
    gateway, said = Gateway(), a_manifest(expires=10 * S)
    gateway.announced(0, said)
    gateway.part(1, NEW, 0, 6)
    gateway.part(2, NEW, 6, 12)
    assert gateway.part(10, NEW, 12, 15) == [refuses(said, "expired")]
    assert gateway.swap.due() == NEVER
    assert gateway.announced(0, said) == [asks(NEW, 0, 6)]
    assert gateway.swap.tick(10 * S) == [], "reported before"
    assert (gateway.swap.refused, gateway.swap.due()) == ({"expired": 2}, NEVER)


def test_a_content_with_another_digest_is_not_applied_and_asked_for_again_from_its_beginning() -> None:
    gateway, said = Gateway(), a_manifest(1, OLD)
    gateway.announced(0, said)
    gateway.swap.chunk(part(b"OLD content", 0, 6, said.digest), S)
    assert gateway.swap.chunk(part(b"OLD content", 6, 11, said.digest), 2 * S) == [refuses(said, "digest")]
    assert gateway.swap.due() == 2 * S + REST_NS
    assert gateway.swap.tick(gateway.swap.due()) == [asks(OLD, 0, 6)]


def test_a_content_that_may_not_score_is_never_asked_for_again() -> None:
    gateway, said = Gateway(), a_manifest(1, b"bad content")
    assert gateway.download(said, b"bad content") == [refuses(said, "content")]
    assert gateway.announced(1, said) == []
    assert gateway.swap.refused == {"content": 1}
    better = a_manifest(2)
    assert gateway.download(better, NEW) == [applies(better, NEW)]


STRAY: dict[str, tuple[bytes, bool]] = {  # second of three parts is awaited
    "a part that came before": (part(NEW, 0, 6), True),
    "a piece of one": (part(NEW, 2, 4), True),
    "a part that comes too early": (part(NEW, 12, 15), False),
    "more than was asked for": (part(NEW, 6, 13), False),
    "another beginning": (part(b"not " + NEW, 0, 6, digest_of(NEW)), False),
    "another content": (part(OLD, 6, 11), False),
    "nothing": (b"", False),
    "too much": (bytes(MAX_CHUNK * 2), False),
    "what scores": (part(b"scoring", 0, 6), True),
}


@pytest.mark.parametrize(("data", "harmless"), STRAY.values(), ids=STRAY.keys())
def test_a_part_that_was_not_asked_for_changes_nothing(data: bytes, harmless: bool) -> None:
    gateway, said = Gateway(scoring=a_manifest(1, b"scoring", name="fans")), a_manifest()
    gateway.announced(0, said)
    gateway.part(1, NEW, 0, 6)
    assert gateway.swap.chunk(data, 2 * S) == ([] if harmless else [refuses(said, "chunk")])
    assert gateway.swap.refused == ({} if harmless else {"chunk": 1})
    assert gateway.part(3, NEW, 6, 12) == [asks(NEW, 12, 3)]
    assert gateway.part(4, NEW, 12, 15) == [applies(said, NEW)]


def test_parts_that_come_when_nothing_is_under_way_are_counted() -> None:
    gateway = Gateway()
    assert gateway.part(0, NEW, 0, 6) == []
    assert gateway.swap.refused == {"chunk": 1}


MUTATIONS: list[Callable[[Random, bytearray], None]] = [
    lambda chance, data: data.__setitem__(chance.randrange(len(data)), chance.randrange(256)),
    lambda chance, data: data.__delitem__(slice(chance.randrange(len(data)), None)),
    lambda chance, data: data.__delitem__(chance.randrange(len(data))),
    lambda chance, data: data.insert(chance.randrange(len(data) + 1), chance.randrange(256)),
    lambda chance, data: data.extend(chance.randbytes(chance.randint(1, 40))),
    lambda chance, data: data.extend(data[: chance.randint(1, 9)]),
    lambda chance, data: data.__setitem__(slice(None), chance.randbytes(len(data))),
]


def mutated(whole: bytes, number: int) -> Iterator[bytes]:
    """Give so many bytes that are not `whole`, the same at each call."""
    chance = Random(7)
    while number:
        data = bytearray(whole)
        for _ in range(chance.randint(1, 3)):
            if data:
                chance.choice(MUTATIONS)(chance, data)
        if bytes(data) != whole and data:
            number -= 1
            yield bytes(data)


def a_baseline() -> bytes:
    entry = baseline.Entry(100.0, np.array([1.0, 2.0]), np.array([[2.0, 0.5], [0.5, 1.0]]))
    return baseline.encode(baseline.Baseline({("pressure", "temperature"): entry}))


REAL = TERMS._replace(checks={SCHEMA: baseline.decode}, chunk=64, max_bytes=4096)


def test_a_thousand_mutated_manifests_are_all_refused() -> None:
    gateway, content = Gateway(REAL), a_baseline()
    said = a_manifest(1, content)
    for data in mutated(sealed(said), 1_000):
        done = gateway.swap.manifest("pumps", data, 0)
        assert not any(isinstance(one, Apply | Ask) for one in done)
    assert gateway.swap.refused == {"signature": 1_000}
    assert gateway.download(said, content) == [applies(said, content)]


def test_a_thousand_mutated_manifests_that_are_signed_are_refused_or_announce_what_never_comes() -> None:
    content = a_baseline()
    body = sealed(a_manifest(1, content))[SIGNATURE_SIZE:]
    for data in mutated(body, 1_000):
        done = Gateway(REAL).swap.manifest("pumps", SIGNER.sign(CONTEXT + data) + data, 0)
        assert not any(isinstance(one, Apply) for one in done)


def test_a_thousand_mutated_parts_are_all_refused() -> None:
    content = a_baseline()
    said, applied, refused = a_manifest(1, content), 0, 0
    whole = part(content, 64, 128)
    for data in mutated(whole, 1_000):
        gateway = Gateway(REAL)
        gateway.announced(0, said)
        gateway.part(0, content, 0, 64)
        left: list[Instruction] = gateway.swap.chunk(data, 0)
        while left:  # a part with other bytes passes for one; the whole does not
            match left.pop(0):
                case Ask(Want(_, offset, size)):
                    left += gateway.part(0, content, offset, offset + size)
                case Apply():
                    applied += 1
        refused += bool(gateway.swap.refused)
    assert (applied, refused) == (0, 1_000)


def test_a_thousand_mutated_contents_under_a_manifest_that_fits_them_are_read_or_refused() -> None:
    applied: list[bytes] = []
    refused = 0
    for content in mutated(a_baseline(), 1_000):
        gateway = Gateway(REAL)
        for done in gateway.download(a_manifest(1, content), content):
            applied += [done.content] if isinstance(done, Apply) else []
        refused += gateway.swap.refused.get("content", 0)
    assert (len(applied) + refused, refused > 500) == (1_000, True)
    for content in applied:  # other numbers, or other names: a baseline all the same
        for entry in baseline.decode(content).entries.values():
            assert np.isfinite(entry.covariance).all()
