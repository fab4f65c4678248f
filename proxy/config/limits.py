"""Limits as people write them: "rpm=60", "ipm=5,model=*-image*", "tpm=1000000,shadow"; read, written, changed."""

from __future__ import annotations

import re
from collections.abc import Iterable
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
    return change((), [str(parse(text)) for text in texts])


def change(limits: Iterable[Limit], texts: Iterable[str]) -> tuple[Limit, ...]:
    """Limits with changes made to them, in their canonical order: "rpm=60" sets one, "rpm=none" takes it away.

    Two limits are the same one where kind, model and shadow are equal. Taking away what isn't there changes nothing.
    Raises ValueError, also for two changes of one limit: only one can be meant.
    """
    changed = {(limit.kind, limit.model, limit.shadow): limit for limit in limits}
    seen = set()
    for text in texts:
        kind, value, model, shadow = _read(text)
        same = (kind, model, shadow)
        if same in seen:
            raise ValueError(f"{_shown(text)}: this limit is given twice, and only one of them can be meant")
        seen.add(same)
        changed.pop(same, None)
        if value is not None:
            changed[same] = Limit(kind, value, model, shadow)
    if len(changed) > MAX_LIMITS:
        raise ValueError(f"{len(changed)} limits are too many for one project or one key: keep at most {MAX_LIMITS}")
    return tuple(sorted(changed.values(), key=lambda limit: (KINDS.index(limit.kind), limit.model, limit.shadow)))


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
            raise ValueError(f"{_shown(text)}: {_shown(part)} is too much: one limit has one value, and one model=")
    if kind is None:
        raise ValueError(f"{_shown(text)} names no limit: write one like rpm=60 or ipm=5,model=*-image*")
    return _Change(kind, value, model or "*", shadow)


def _kind(name: str, text: str) -> str:
    if name in ("usd", "per"):
        raise ValueError(f"{_shown(text)}: budgets (usd=, per=) come with a later version")
    if name not in KINDS:
        near = get_close_matches(name.lower(), (*KINDS, "model", "shadow"), n=1)
        advice = f"did you mean {near[0]}?" if near else "write one like rpm=60 or ipm=5,model=*-image*"
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
