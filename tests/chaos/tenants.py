"""Who calls: projects with limits of every kind and with none, and what is never to be over."""

from __future__ import annotations

import random
import secrets
import time
from typing import NamedTuple

from proxy.config.limits import Limit
from proxy.store.database import Database
from proxy.tenants import keys, projects


class Bound(NamedTuple):
    """A limit of a project, or of one of its keys: of its kind, or `usd` per "day" or "total", in nano-dollars."""

    project: str
    key: str
    """Empty: the project's."""
    kind: str
    value: int
    per: str = ""

    @property
    def limit(self) -> Limit:
        return Limit(self.kind, self.value, per=self.per)

    def concerns(self, key: str) -> bool:
        return key == self.key if self.key else key.partition("-")[0] == self.project

    def __str__(self) -> str:
        return f"{self.limit} of {self.key or self.project}"


WEIGHTS = {"free": 52, "paid": 10, "minute": 6, "day": 7, "tokens": 6, "pictures": 5, "narrow": 8, "all": 6}
"""How many of 100 calls are a project's."""
KEYS = {name: tuple(f"{name}-{number}" for number in range(8 if name == "free" else 2)) for name in WEIGHTS}


def bounds(calls: int) -> tuple[Bound, ...]:
    """For a run of so many calls: days are counted to their end, so a longer run needs more of them."""
    return (
        Bound("minute", "", "rpm", 40),
        Bound("minute", "minute-1", "rpm", 15),
        Bound("day", "", "rpd", calls * WEIGHTS["day"] // 200),
        Bound("day", "day-1", "rpd", calls * WEIGHTS["day"] // 600),
        Bound("tokens", "", "tpm", 20_000),
        Bound("tokens", "", "concurrency", 6),
        Bound("pictures", "", "ipm", 30),
        Bound("pictures", "", "concurrency", 6),
        Bound("narrow", "", "concurrency", 3),
        Bound("narrow", "narrow-1", "concurrency", 2),
        Bound("all", "", "rpm", 60),
        Bound("all", "", "tpm", 40_000),
        Bound("all", "", "ipm", 20),
        Bound("all", "", "rpd", min(calls * WEIGHTS["all"] // 600, 150)),
        Bound("all", "", "concurrency", 4),
        Bound("all", "all-1", "rpm", 20),
        Bound("paid", "", "usd", calls * 800_000, "total"),
        Bound("paid", "paid-1", "usd", calls * 300_000, "day"),
    )


def draw(chance: random.Random) -> str:
    """Whose key a call bears."""
    project = chance.choices(tuple(WEIGHTS), tuple(WEIGHTS.values()))[0]
    return chance.choice(KEYS[project])


def pictures(key: str) -> float:
    """How many of a key's calls are to make pictures whatever the others do, as a share."""
    return 0.7 if key.startswith("pictures") else 0.0


def estimates_hold(key: str) -> bool:
    """Whether a key's prompts never weigh more than they look: so its `tpm` is never over at all."""
    return key.startswith("tokens")


def is_bounded(key: str) -> bool:
    """Whether a key's calls never cost more than their bodies bound: so its budget is never over."""
    return key.startswith("paid")


def make(database: Database, limits: tuple[Bound, ...]) -> dict[str, str]:
    """Makes projects and keys. Returns what each key's holder sends, by the key's name."""
    now, held = time.time_ns() // 1000, {}
    for project, names in KEYS.items():
        of_project = tuple(one.limit for one in limits if one.project == project and not one.key)
        projects.create(database, project, now, actor="test", limits=of_project)
        for name in names:
            of_key = tuple(one.limit for one in limits if one.key == name)
            made = keys.create(database, project, name, now, secrets.randbelow, actor="test", limits=of_key)
            held[name] = made[1]
    return held
