"""Limits as people write them: "rpm=60", "ipm=5,model=gemini-3-pro-*", "tpm=1000000,shadow"; read, written, changed."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import NamedTuple

from proxy.config.globs import check_glob

KINDS = ("rpm", "tpm", "rpd", "ipm", "concurrency")
"""Calls a minute, prompt tokens a minute, calls a day, images a minute, calls at once."""

MAX_VALUE = 10**12
MAX_LIMITS = 100
"""Of one project, or of one key: each call is checked against all of them."""

NONE = "none"


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `value` of `kind`, over all models that match `model` together. A shadow limit counts and never refuses.

    `str` writes the text that `parse` reads: one text for one limit.
    """

    kind: str
    value: int
    model: str = "*"
    shadow: bool = False

    def __str__(self) -> str:
        model = f",model={self.model}" if self.model != "*" else ""
        return f"{self.kind}={self.value}{model}{',shadow' if self.shadow else ''}"


_Same = tuple[str, str, bool]
"""Kind, model, shadow."""


class _Change(NamedTuple):
    """What a text asks for: a limit of that value, or (None) none of that kind for these models."""

    kind: str
    value: int | None
    model: str
    shadow: bool


def parse(text: str) -> Limit:
    """Raises ValueError, with a sentence for whoever wrote the text."""
    asked = _read(text)
    if asked.value is None:
        raise ValueError(f"{_shown(text)} takes a limit away: leave it out where there is none yet")
    return Limit(asked.kind, asked.value, asked.model, asked.shadow)


def parse_all(texts: Iterable[str]) -> tuple[Limit, ...]:
    """Several limits, in their canonical order. Raises ValueError, also where one is given twice."""
    found: dict[_Same, Limit] = {}
    for text in texts:
        limit = parse(text)
        _once(found, limit, text)
        found[_same(limit)] = limit
    return _in_order(found)


def change(limits: Iterable[Limit], texts: Iterable[str]) -> tuple[Limit, ...]:
    """Limits with changes made to them, in their canonical order: "rpm=60" sets one, "rpm=none" takes it away.

    Two limits are the same one where kind, model and shadow are equal. Taking away what isn't there changes nothing.
    Raises ValueError, also for two changes of one limit: only one can be meant.
    """
    changed = {_same(limit): limit for limit in limits}
    asked: dict[_Same, _Change] = {}
    for text in texts:
        one = _read(text)
        _once(asked, one, text)
        asked[_same(one)] = one
    for same, (kind, value, model, shadow) in asked.items():
        if value is None:
            changed.pop(same, None)
        else:
            changed[same] = Limit(kind, value, model, shadow)
    return _in_order(changed)


def _same(limit: Limit | _Change) -> _Same:
    return limit.kind, limit.model, limit.shadow


def _once(seen: Container[_Same], limit: Limit | _Change, text: str) -> None:
    if _same(limit) in seen:
        raise ValueError(f"{_shown(text)}: this limit is given twice, and only one of them can be meant")


def _in_order(limits: Mapping[_Same, Limit]) -> tuple[Limit, ...]:
    if len(limits) > MAX_LIMITS:
        raise ValueError(f"{len(limits)} limits are too many for one project or one key: keep at most {MAX_LIMITS}")
    return tuple(sorted(limits.values(), key=lambda limit: (KINDS.index(limit.kind), limit.model, limit.shadow)))


def _read(text: str) -> _Change:
    kind = value = model = None
    shadow = False
    for part in text.split(","):
        name, equals, given = (word.strip() for word in part.partition("="))
        if name == "shadow" and not equals and not shadow:
            shadow = True
        elif name == "model" and equals and model is None:
            model = check_glob(given)
        elif kind is None:
            kind, value = _kind(name, text), _value(name, given)
        else:
            raise ValueError(_too_much(name, part, text))
    if kind is None:
        raise ValueError(f"{_shown(text)} names no limit: write one like rpm=60 or ipm=5,model=gemini-3-pro-*")
    return _Change(kind, value, model or "*", shadow)


def _too_much(name: str, part: str, text: str) -> str:
    if name in KINDS:
        advice = "one limit has one value, so write this one as a limit of its own"
    else:
        advice = "after its value, a limit has model=GLOB or shadow or both, each once"
    return f"{_shown(text)}: {_shown(part)} is too much: {advice}"


def _kind(name: str, text: str) -> str:
    if name in ("usd", "per"):
        raise ValueError(f"{_shown(text)}: budgets (usd=, per=) come with a later version")
    if name not in KINDS:
        near = get_close_matches(name.lower(), (*KINDS, "model", "shadow"), n=1)
        advice = f"did you mean {near[0]}?" if near else "write one like rpm=60 or ipm=5,model=gemini-3-pro-*"
        raise ValueError(f"{_shown(text)}: {_shown(name)} is no kind of limit ({', '.join(KINDS)}); {advice}")
    return name


def _value(kind: str, given: str) -> int | None:
    if given == NONE:
        return None
    if not re.fullmatch(r"[0-9]{1,13}", given) or int(given) > MAX_VALUE:
        raise ValueError(f"{kind}={_shown(given)}: write a whole number from 0 to {MAX_VALUE}, as in {kind}=60")
    return int(given)


def _shown(text: str) -> str:
    return repr(text[:80])
