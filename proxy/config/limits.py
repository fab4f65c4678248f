"""Limits as people write them: "rpm=60", "ipm=5,model=gemini-3-pro-*", "usd=100,per=month"; read, written, changed."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from difflib import get_close_matches
from typing import NamedTuple

from proxy.config.globs import check_glob

KINDS = ("rpm", "tpm", "rpd", "ipm", "concurrency", "usd")
"""Calls a minute, prompt tokens a minute, calls a day, images a minute, calls at once; money, which makes a budget."""
PERIODS = ("day", "month", "total")
"""What a budget is for: a calendar day, a calendar month, or all time."""

MAX_VALUE = 10**12
MAX_USD = 9_000_000
"""Of a budget. Nano-dollars of that are still exact in Redis, whose scripts count in doubles."""
NANO = 1_000_000_000
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
    """Of a budget, nano-dollars."""
    model: str = "*"
    shadow: bool = False
    per: str = ""
    """Of a budget, one of PERIODS; else empty."""

    def __str__(self) -> str:
        value = f"{_in_usd(self.value)},per={self.per}" if self.per else str(self.value)
        model = f",model={self.model}" if self.model != "*" else ""
        return f"{self.kind}={value}{model}{',shadow' if self.shadow else ''}"


def _in_usd(nanos: int) -> str:
    """Nano-dollars as people write USD: "100", "0.5"."""
    return f"{Decimal(nanos) / NANO:f}".rstrip("0").rstrip(".") if nanos % NANO else str(nanos // NANO)


_Same = tuple[str, str, bool, str]
"""Kind, model, shadow, and the period of a budget."""


class _Change(NamedTuple):
    """What a text asks for: a limit of that value, or (None) none of that kind for these models."""

    kind: str
    value: int | None
    model: str
    shadow: bool
    per: str


def parse(text: str) -> Limit:
    """Raises ValueError, with a sentence for whoever wrote the text."""
    asked = _read(text)
    if asked.value is None:
        raise ValueError(f"{_shown(text)} takes a limit away: leave it out where there is none yet")
    return Limit(asked.kind, asked.value, asked.model, asked.shadow, asked.per)


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

    Two limits are the same one where all but their values are equal. Taking away what isn't there changes nothing.
    Raises ValueError, also for two changes of one limit: only one can be meant.
    """
    changed = {_same(limit): limit for limit in limits}
    asked: dict[_Same, _Change] = {}
    for text in texts:
        one = _read(text)
        _once(asked, one, text)
        asked[_same(one)] = one
    for same, (kind, value, model, shadow, per) in asked.items():
        if value is None:
            changed.pop(same, None)
        else:
            changed[same] = Limit(kind, value, model, shadow, per)
    return _in_order(changed)


def _same(limit: Limit | _Change) -> _Same:
    return limit.kind, limit.model, limit.shadow, limit.per


def _once(seen: Container[_Same], limit: Limit | _Change, text: str) -> None:
    if _same(limit) in seen:
        raise ValueError(f"{_shown(text)}: this limit is given twice, and only one of them can be meant")


def _in_order(limits: Mapping[_Same, Limit]) -> tuple[Limit, ...]:
    if len(limits) > MAX_LIMITS:
        raise ValueError(f"{len(limits)} limits are too many for one project or one key: keep at most {MAX_LIMITS}")
    return tuple(sorted(limits.values(), key=_place))


def _place(limit: Limit) -> tuple[int, int, str, bool]:
    return KINDS.index(limit.kind), PERIODS.index(limit.per) if limit.per else 0, limit.model, limit.shadow


def _read(text: str) -> _Change:
    kind = value = model = per = None
    shadow = False
    for part in text.split(","):
        name, equals, given = (word.strip() for word in part.partition("="))
        if name == "shadow" and not equals and not shadow:
            shadow = True
        elif name == "model" and equals and model is None:
            model = check_glob(given)
        elif name == "per" and equals and per is None:
            per = _period(given, text)
        elif kind is None:
            kind, value = _kind(name, given, text), _value(name, given)
        else:
            raise ValueError(_too_much(name, part, text))
    if kind is None:
        raise ValueError(f"{_shown(text)} names no limit: write one like rpm=60 or usd=100,per=month")
    if (kind == "usd") != (per is not None):
        advice = "say for how long, as in usd=100,per=month" if kind == "usd" else "only a budget (usd=) has per="
        raise ValueError(f"{_shown(text)}: {advice}")
    return _Change(kind, value, model or "*", shadow, per or "")


def _too_much(name: str, part: str, text: str) -> str:
    if name in KINDS:
        advice = "one limit has one value, so write this one as a limit of its own"
    elif re.fullmatch(r"[0-9.]+", part.strip()):
        advice = "a comma ends a value, so write numbers without one, as in 1000 or 2.50"
    else:
        advice = "after its value, a limit has model=GLOB or shadow, and a budget per=PERIOD, each once"
    return f"{_shown(text)}: {_shown(part)} is too much: {advice}"


def _kind(name: str, given: str, text: str) -> str:
    if name not in KINDS:
        # A number is meant for a kind: whoever writes eur=10 doesn't mean per=10.
        words = KINDS if given[:1].isdecimal() else (*KINDS, "model", "per", "shadow")
        near = get_close_matches(name.lower(), words, n=1)
        examples = "rpm=60, ipm=5,model=gemini-3-pro-* or, for money, usd=100,per=month"
        advice = f"did you mean {near[0]}?" if near else f"write one like {examples}"
        raise ValueError(f"{_shown(text)}: {_shown(name)} is no kind of limit ({', '.join(KINDS)}); {advice}")
    return name


def _period(given: str, text: str) -> str:
    if given not in PERIODS:
        raise ValueError(f"{_shown(text)}: a budget is per=day, per=month or per=total, and not per={_shown(given)}")
    return given


def _value(kind: str, given: str) -> int | None:
    if given == NONE:
        return None
    if kind == "usd":
        return _usd(given)
    if not re.fullmatch(r"[0-9]{1,13}", given) or int(given) > MAX_VALUE:
        raise ValueError(f"{kind}={_shown(given)}: write a whole number from 0 to {MAX_VALUE}, as in {kind}=60")
    return int(given)


def _usd(given: str) -> int:
    if not re.fullmatch(r"[0-9]{1,7}(\.[0-9]{1,9})?", given) or Decimal(given) > MAX_USD:
        raise ValueError(
            f"usd={_shown(given)}: write USD from 0 to {MAX_USD}, with at most nine decimals, as in 100 or 2.50"
        )
    return int(Decimal(given) * NANO)


def _shown(text: str) -> str:
    return repr(text[:80])
