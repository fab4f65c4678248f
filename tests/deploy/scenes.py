"""Real runs whose metrics hold something of everything: for alerts, for the queries of dashboards."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from proxy.config.limits import parse_all
from proxy.store.database import open_database
from proxy.tenants import keys, projects
from tests.journeys.pooled import BAD_KEY, KEY, Upstream, error
from tests.journeys.watching import DEADLINE_S, PICTURE, TEXT, body
from tests.redis_servers import free_port
from tests.stand import Weighbridge, emulator

OF_A_DAY = {"quotaMetric": "m", "quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}
OUT_OF_QUOTA = error(
    429,
    "You exceeded your current quota, please check your plan and billing details.",
    {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [OF_A_DAY]},
    {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "41s"},
)
"""Google's answer where a day's quota of a model is used up: it is back at midnight in Los Angeles."""

ASK = f"{TEXT}generateContent"
STREAM = f"{TEXT}streamGenerateContent?alt=sse"
COUNT = f"{TEXT}countTokens"
OF_REFUSED = "/v1beta/models/gemini-3.1-pro-preview:generateContent"
OF_GONE = "/v1beta/models/gemini-2.5-flash:generateContent"
UNPRICED = "/v1beta/models/gemini-next-oganesson:generateContent"
NOWHERE = "/v1beta/models/imagen-nowhere:generateContent"

PROJECTS: dict[str, tuple[str, ...]] = {
    "alice": ("usd=0.3,per=month", "rpm=10000", "concurrency=50", "tpm=100000000", "rpd=100000", "ipm=1000"),
    "bob": ("rpm=2",),
    "carol": ("usd=0.0000001,per=total",),
    "dora": ("rpm=1,shadow",),
}
"""Limits of each project. bob is over his, carol has spent hers, dora has none that refuses."""


def with_projects(stand: Weighbridge, made: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Makes projects with these limits; a key of each."""
    database, now = open_database(stand.storage), time.time_ns() // 1000
    given = {}
    for name, limits in made.items():
        projects.create(database, name, now, actor="test", limits=parse_all(limits))
        given[name] = keys.create(database, name, "test", now, secrets.randbelow, actor="test")[1]
    return given


def pool_of(main: str, out_of_quota: Upstream, refused: Upstream, odd: Upstream) -> list[dict[str, object]]:
    """`main` serves everything; before it come, for one model each, those that can't; `odd` has a model of no price."""
    gone = f"http://127.0.0.1:{free_port()}"
    return [
        {"name": "out-of-quota", "base_url": out_of_quota.base_url, "models": ["gemini-3.8-flash"]},
        {"name": "refused", "base_url": refused.base_url, "models": ["gemini-3.1-pro-preview"]},
        {"name": "gone", "base_url": gone, "models": ["gemini-2.5-flash"]},
        {"name": "odd", "base_url": odd.base_url, "models": ["gemini-next-*"]},
        {"name": "main", "base_url": main, "models": ["gemini-[23]*", "gemini-nano*"], "priority": 1},
    ]


@dataclass
class Scene:
    """A Weighbridge that runs; whoever wants more to happen makes more `traffic`."""

    stand: Weighbridge
    keys: Mapping[str, str]
    client: httpx2.Client
    told: Counter[tuple[int, str]] = field(default_factory=Counter)
    """How often which status was answered, and with which refusal, if with one."""

    def ask(self, project: str, path: str, content: Any = None, **headers: str) -> httpx2.Response:
        """One call of a project's key; of none where the project is unknown."""
        key = {"x-goog-api-key": self.keys[project]} if project in self.keys else {}
        asked = body("hello") if content is None else content
        answer = self.client.post(f"{self.stand.base_url}{path}", json=asked, headers={**key, **headers})
        self.told[answer.status_code, answer.headers.get("x-weighbridge-refused", "")] += 1
        return answer

    def traffic(self, rounds: int = 1) -> None:
        """What tenants do, well and badly: 20 calls and more a round. After two of them every metric has something."""
        for _ in range(rounds):
            for path in (ASK, STREAM, COUNT, OF_REFUSED, OF_GONE, UNPRICED, PICTURE):
                self.ask("alice", path)
            self.ask("dora", ASK, body("[[usage=none]] hello"))
            self.ask("dora", UNPRICED)
            for project in ("alice", "dora"):
                self.ask(project, ASK, body("[[status=500]] hello"))
            self.ask("dora", PICTURE)
            self.ask("dora", "/v1/images/generations", {"prompt": "a cat", "n": 1})
            for _ in range(3):
                self.ask("bob", ASK)
            for _ in range(2):
                self.ask("carol", ASK)
            self.ask("bob", PICTURE)
            self.ask("nobody", ASK)
            self.ask("", ASK, **{"x-goog-api-key": "AIza-not-a-key"})
            self.ask("dora", NOWHERE)
            self.ask("dora", "/v1beta/nothing:here")


@contextmanager
def everything(folder: Path) -> Iterator[Scene]:
    """One process with its own files: projects in and over their limits, upstreams of every condition."""
    with ExitStack() as around:
        client = around.enter_context(httpx2.Client(timeout=DEADLINE_S, trust_env=False))
        main = around.enter_context(emulator(keys=(KEY,)))
        out_of_quota, refused, odd = (
            Upstream(name, says) for name, says in (("out-of-quota", OUT_OF_QUOTA), ("refused", BAD_KEY), ("odd", b""))
        )
        for upstream in (out_of_quota, refused, odd):
            around.enter_context(upstream.listening())
        settings = {"upstreams": pool_of(main, out_of_quota, refused, odd)}
        stand = Weighbridge(folder, "", settings, upstream_key=KEY)
        around.callback(stand.close)
        made = with_projects(stand, PROJECTS)
        stand.start()
        yield Scene(stand, made, client)
