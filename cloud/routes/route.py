"""An address, its parameters, and how a request is refused: what is wrong, where, and what to do about it. Pure.

{"error": {"what": "limit is 0", "where": "query parameter limit", "do": "give a whole number from 1 to 10000"}}
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cloud.routes.bodies import Trouble
from protocol.errors import FieldgateError

INT64 = (1 << 63) - 1
MAX_TEXT = 256
MAX_LIVE = 64
"""Series that one page may watch."""


class ApiRefused(FieldgateError):
    """A request that cannot be answered: the asker's fault, with the remedy."""

    def __init__(self, status: int, what: str, where: str, do: str, *, retry_after_s: int = 0) -> None:
        super().__init__(what)
        self.status = status
        self.trouble = Trouble(what, where, do)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Parameter:
    """One query parameter; `kind` "ids" is a list of integers parted by commas."""

    name: str
    kind: Literal["int", "text", "ids"]
    about: str
    default: Any = None
    required: bool = False
    least: int = 0
    most: int = INT64
    place: Literal["query", "path"] = "query"

    @property
    def expectation(self) -> str:
        """What a good value is."""
        if self.kind == "text":
            return f"text of at most {MAX_TEXT} characters"
        span = f"from {self.least} to {self.most}" if self.most < INT64 else f"of at least {self.least}"
        if self.kind == "ids":
            return f"at most {MAX_LIVE} ids, parted by commas"
        return f"a whole number {span}"

    def read(self, text: str | None) -> Any:
        """Turn the query's text into a value; ApiRefused says what was expected."""
        if text is None:
            if self.required:
                raise self._refused("is missing")
            return self.default
        if self.kind == "text":
            if len(text) > MAX_TEXT:
                raise self._refused(f"has {len(text)} characters")
            return text
        if self.kind == "ids":
            items = [item for item in text.split(",") if item]
            if len(items) > MAX_LIVE:
                raise self._refused(f"has {len(items)} ids")
            return [self._integer(item) for item in items]
        return self._integer(text)

    def _integer(self, text: str) -> int:
        digits = text.removeprefix("-")
        if not (digits.isascii() and digits.isdigit()) or len(digits) > 19:
            raise self._refused(f"is {text[:MAX_TEXT]!r}")
        if not self.least <= (value := int(text)) <= self.most:
            raise self._refused(f"is {value}")
        return value

    def _refused(self, what: str) -> ApiRefused:
        return ApiRefused(400, f"{self.name} {what}", f"{self.place} parameter {self.name}", f"give {self.expectation}")


@dataclass(frozen=True, slots=True)
class Route:
    """One address. `access`: "open" to all, "reader" on loopback or with the admin token, "gateway" with its token.

    "admin" changes something: the admin token is asked for everywhere, as a bearer token: no other page can send it.
    """

    path: str
    name: str
    about: str
    access: Literal["open", "reader", "gateway", "admin"]
    answer: type | str  # a struct for JSON, or a media type
    parameters: tuple[Parameter, ...] = ()
    method: Literal["GET", "POST", "DELETE"] = "GET"
    body: str = ""  # media type of what is sent; "" is nothing

    def read(self, query: Mapping[str, str]) -> dict[str, Any]:
        """Read all parameters; an unknown one is refused with the nearest known."""
        known = [parameter.name for parameter in self.parameters]
        for name in query:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1, 0.5)
                do = f"did you mean {near[0]}?" if near else f"use {', '.join(known) or 'none'}"
                raise ApiRefused(400, f"there is no parameter {name[:MAX_TEXT]}", "query", do)
        return {parameter.name: parameter.read(query.get(parameter.name)) for parameter in self.parameters}
