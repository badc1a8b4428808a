"""What is said when nothing is recorded, as tables."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cli.hint import hint, template
from gateway import config

TEMPLATES = [
    (["sensors/d1/temperature"], ['topic = "sensors/{device}/{measurement}"']),
    (["sensors/d1/temperature", "sensors/d2/humidity"], ['topic = "sensors/{device}/{measurement}"']),
    (["plant/press1/a/t", "plant/press2/a/t"], ['topic = "plant/{device}/a/{measurement}"']),
    (["x/line1/p1/t", "x/line1/p2/t", "x/line2/p3/t"], ['topic = "x/+/{device}/{measurement}"']),
    (["a/t"], ['topic = "{device}/{measurement}"']),
    (["lamp"], ['topic = "{device}"', 'measurement = "value"']),
    (["lamp", "a/b/c", "a/d/c"], ['topic = "a/{device}/{measurement}"']),
    (['we "x"/d1/t'], ['topic = "we \\"x\\"/{device}/{measurement}"']),
    (["{odd}/d1/t"], ['topic = "+/{device}/{measurement}"']),
    (["/d1/t"], ['topic = "/{device}/{measurement}"']),
]


@pytest.mark.parametrize(("topics", "lines"), TEMPLATES, ids=["; ".join(topics) for topics, _ in TEMPLATES])
def test_a_template_is_proposed_for_topics(topics: list[str], lines: list[str]) -> None:
    assert template(topics) == lines


TEXTS = [
    (
        "silence",
        [],
        {},
        """\
Nothing has been recorded for 10 s.
No message has come: is devices.url the right broker, and does anything publish there?""",
    ),
    (
        "other topics",
        ["home/kitchen/t", "$SYS/broker/uptime", "fieldgate/v1/g/status"],
        {},
        """\
Nothing has been recorded for 10 s.
Topics heard (1):
  home/kitchen/t
This would match:
  topic = "home/{device}/{measurement}\"""",
    ),
    (
        "unreadable payloads",
        ["s/d/t"],
        {"json": 7, "odd": 9, "time": 0},
        """\
Nothing has been recorded for 10 s.
Topics heard (1):
  s/d/t
Refused:
  odd (9)
  json (7): the payload is not JSON; a bare number is format = "number\"""",
    ),
    (
        "many topics that fit no source",
        [f"s/d{number}/t" for number in range(7)],
        {"topic": 7},
        """\
Nothing has been recorded for 10 s.
Topics heard (7):
  s/d0/t
  s/d1/t
  s/d2/t
  s/d3/t
  s/d4/t
  ... and 2 more
Refused:
  topic (7): no [[source]] has a topic that fits them
This would match:
  topic = "s/{device}/{measurement}\"""",
    ),
]


@pytest.mark.parametrize(("heard", "refused", "text"), [row[1:] for row in TEXTS], ids=[row[0] for row in TEXTS])
def test_the_hint_says_what_was_heard_and_what_would_match(
    heard: list[str], refused: dict[str, int], text: str
) -> None:
    assert hint(heard, refused) == text


LEVELS = st.text(st.characters(exclude_characters="/+#\0", codec="utf-8"), max_size=4)
TOPICS = st.lists(st.lists(LEVELS, min_size=1, max_size=4).map("/".join), min_size=1, max_size=8)


@settings(max_examples=200)
@given(TOPICS.filter(all))
def test_the_proposed_template_is_a_valid_source_that_matches(topics: list[str]) -> None:
    text = 'name = "g"\ndata = "d"\n[[source]]\n' + "\n".join(template(topics))
    topic_filter = config.parse(text).source[0].filter
    pattern = re.compile("/".join("[^/]*" if level == "+" else re.escape(level) for level in topic_filter.split("/")))
    depth = len(topic_filter.split("/"))
    same_depth = [topic for topic in topics if len(topic.split("/")) == depth]
    assert same_depth
    assert all(pattern.fullmatch(topic) for topic in same_depth)
