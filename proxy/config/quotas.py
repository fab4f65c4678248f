"""An upstream's own quota, as in `limits = {rpm = 1000, usd_per_10min = 200}`: read, and asked by model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from difflib import get_close_matches
from typing import Any

from proxy.config.globs import check_glob, matcher
from proxy.config.limits import MAX_LIMITS, MAX_USD, MAX_VALUE, NANO

PER_MODEL = ("rpm", "tpm", "rpd", "ipm")
"""Calls a minute, prompt tokens a minute, calls a day, images a minute: Google counts each model's by itself."""
SPEND = "usd_per_10min"
"""Money in any ten minutes, over all models. Google's limits of spending by usage tier: 10, 50 and 200 USD."""

_ELSEWHERE = {
    "concurrency": "upstreams.max_connections bounds the calls at once",
    "usd": f"Google bounds money by ten minutes: write {SPEND}",
}


@dataclass(frozen=True, slots=True)
class Quota:
    """What an upstream may be asked for. `general` is for each model that no glob says otherwise of."""

    general: Mapping[str, int] = field(default_factory=dict)
    by_model: tuple[tuple[str, Mapping[str, int]], ...] = ()
    """Globs in the order of writing, and what is theirs."""
    spend: int | None = None
    """Nano-dollars in any ten minutes, over all models."""

    def __bool__(self) -> bool:
        """Whether anything is limited."""
        return bool(self.general or self.by_model or self.spend is not None)

    def of(self, model: str) -> dict[str, int]:
        """What a model may be asked for, by kind (those of PER_MODEL): by the first glob that it matches, however it is
        spelt, and where that says nothing of a kind, in general."""
        own = next((own for glob, own in self.by_model if matcher(glob, any_case=True)(model)), {})
        return {**self.general, **own}

    def written(self) -> dict[str, Any]:
        """The table that `parse` reads as this quota."""
        money = {} if self.spend is None else {SPEND: Decimal(self.spend) / NANO}
        return {**self.general, **money, **{glob: dict(own) for glob, own in self.by_model}}

    def __str__(self) -> str:
        """The same in TOML, on one line."""
        return _inline(self.written())


NO_QUOTA = Quota()


def parse(written: object) -> Quota:
    """Reads the table. Raises ValueError, with a sentence for each mistake in it."""
    if isinstance(written, Quota):
        return written
    problems: list[str] = []
    general, by_model, spend = dict[str, int](), list[tuple[str, Mapping[str, int]]](), None
    for name, value in _items(written, "limits", problems):
        if isinstance(value, Mapping) and name not in (*PER_MODEL, SPEND):
            of_model = (_entry(kind, of, f"{name!r}.", problems) for kind, of in _items(value, name, problems))
            by_model.append((name, {kind: number for kind, number in of_model if kind}))
            _check_glob(name, problems)
        elif name == SPEND:
            spend = _nanos(value, problems)
        else:
            kind, number = _entry(name, value, "", problems)
            general |= {kind: number} if kind else {}
    if len(by_model) > MAX_LIMITS:
        problems.append(f"{len(by_model)} globs are too many: keep at most {MAX_LIMITS}")
    if problems:
        raise ValueError("; ".join(problems))
    return Quota(general, tuple(by_model), spend)


def _inline(table: Mapping[str, Any]) -> str:
    entries = (
        f'"{name}" = {_inline(value)}' if isinstance(value, Mapping) else f"{name} = {value}"
        for name, value in table.items()
    )
    return f"{{{', '.join(entries)}}}"


def _items(table: object, name: str, problems: list[str]) -> Iterator[tuple[str, object]]:
    if not isinstance(table, Mapping):
        problems.append(f"{name} is a table: write {{rpm = 1000, {SPEND} = 200}}")
    elif not table and name != "limits":
        problems.append(f"{name!r} limits nothing: give a number to one of {', '.join(PER_MODEL)}")
    else:
        yield from table.items()


def _check_glob(glob: str, problems: list[str]) -> None:
    try:
        check_glob(glob)
    except ValueError as error:
        problems.append(str(error))


def _entry(kind: str, value: object, where: str, problems: list[str]) -> tuple[str, int]:
    """A kind and its number; "" where something is wrong with them."""
    if kind not in PER_MODEL:
        problems.append(f"{where}{kind[:80]} {_unknown(kind, where)}")
    # bool is an int to Python, and not to whoever writes it.
    elif isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_VALUE:
        problems.append(f"{where}{kind} must be a whole number from 0 to {MAX_VALUE}")
    else:
        return kind, value
    return "", 0


def _unknown(kind: str, where: str) -> str:
    if kind == SPEND:
        return f"is over all models: write it beside the globs, not under {where[:-1]}"
    kinds = PER_MODEL if where else (*PER_MODEL, SPEND)
    near = get_close_matches(kind.lower(), kinds, n=1)
    advice = _ELSEWHERE.get(kind) or (f"did you mean {near[0]}?" if near else "each model's own are tables, by globs")
    return f"is no kind of an upstream's limits ({', '.join(kinds)}): {advice}"


def _nanos(value: object, problems: list[str]) -> int | None:
    usd = Decimal(value) if isinstance(value, int | Decimal) and not isinstance(value, bool) else None
    if usd is None or not usd.is_finite() or not 0 <= usd <= MAX_USD or usd * NANO % 1:
        problems.append(f"{SPEND} must be USD from 0 to {MAX_USD}, with at most nine decimals, as in 200 or 2.50")
        return None
    return int(usd * NANO)
