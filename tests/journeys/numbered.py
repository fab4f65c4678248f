"""Numbered calls: made many at once, then found again in the ledger and in the emulator's own account, one by one."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2

from proxy.billing.records import UsageRecord
from tests.journeys.watching import TEXT
from tests.stand import Weighbridge

VERBS = ("generateContent", "streamGenerateContent?alt=sse", "streamGenerateContent")
BASE = 300
"""Bytes of the body of call 0. Call n has n bytes more: so its record and its lease show its number."""


def numbered(number: int, directives: str = "") -> bytes:
    """The body of a call. Its number also stands in the prompt, which the emulator's account shows."""
    prompt = f"call {number} {directives} "
    short = len(json.dumps({"contents": [{"parts": [{"text": prompt}]}]}))
    return json.dumps({"contents": [{"parts": [{"text": prompt + "x" * (BASE + number - short)}]}]}).encode()


@dataclass(frozen=True)
class Whole:
    """A response that its client holds for complete, and when that was by the clock of the load."""

    request_id: str
    at: int


@dataclass
class Load:
    """Calls, many at once and of every framing, until the server ends or `enough`; some clients leave early."""

    seed: int
    at_once: int = 12
    clock: Callable[[], int] = lambda: 0
    whole: dict[int, Whole] = field(default_factory=dict)
    refused: dict[int, httpx2.Response] = field(default_factory=dict)
    numbers: int = 0
    enough: bool = False
    _waiting: list[tuple[int, asyncio.Event]] = field(default_factory=list)

    async def run(self, stand: Weighbridge, key: str) -> None:
        """Returns when the server has ended, or soon after `enough`."""
        limits = httpx2.Limits(max_connections=self.at_once)
        headers = {"x-goog-api-key": key, "content-type": "application/json"}
        async with (
            httpx2.AsyncClient(base_url=stand.base_url, headers=headers, limits=limits, timeout=30) as client,
            asyncio.TaskGroup() as callers,
        ):
            for caller in range(self.at_once):
                callers.create_task(self._call(client, random.Random(f"{self.seed} {caller}")))
        for _, event in self._waiting:
            event.set()

    async def more(self, calls: int) -> None:
        """Waits until so many more responses were received whole, or the load ended."""
        event = asyncio.Event()
        self._waiting.append((len(self.whole) + calls, event))
        await event.wait()

    async def _call(self, client: httpx2.AsyncClient, chance: random.Random) -> None:
        while not self.enough:
            self.numbers = number = self.numbers + 1
            directives = chance.choice(("", "", "[[delay=0.005]]", "[[chunks=4]] [[chunk-delay=0.001]]", "[[length]]"))
            patience = chance.choice((None, None, None, None, None, None, None, 0.004))
            try:
                async with asyncio.timeout(patience):
                    url = TEXT + chance.choice(VERBS)
                    answer = await client.post(url, content=numbered(number, directives))
            except TimeoutError:
                continue
            except httpx2.TransportError:
                return
            except AttributeError as error:
                if error.name != "getpeername":  # anyio asks a new connection for its peer, though it has died already
                    raise
                return
            if answer.status_code == 200:
                self._received(number, answer.headers["x-weighbridge-request-id"])
            else:
                self.refused[number] = answer
                await asyncio.sleep(0.01)

    def _received(self, number: int, request_id: str) -> None:
        self.whole[number] = Whole(request_id, self.clock())
        for count, event in self._waiting:
            if len(self.whole) >= count:
                event.set()


def account(upstream: str) -> dict[int, dict[str, Any]]:
    """The emulator's entries by the number of the call. No call reached it twice."""
    page = httpx2.get(f"{upstream}/emulator/account", params={"limit": 1_000_000}).json()
    entries = {int(entry["prompt"].split()[1]): entry for entry in page["entries"]}
    assert len(entries) == len(page["entries"]), "a call went up twice"
    return entries


def forget(upstream: str) -> None:
    httpx2.delete(f"{upstream}/emulator/account")


def compare(
    records: Sequence[UsageRecord],
    entries: Mapping[int, Mapping[str, Any]],
    whole: Mapping[int, Whole],
    *,
    lost_leases: bool = False,
) -> Counter[str]:
    """Holds a ledger against the emulator's account and against what clients received. Counts the outcomes.

    `lost_leases`: after a power loss, which no lease needs to survive, what nobody received may have left no record.
    """
    found = {record.request_bytes - BASE: record for record in records}
    assert len(found) == len({record.request_id for record in records}) == len(records), "a call is recorded twice"
    for number, received in whole.items():
        assert number in found, f"call {number} was received whole and is not in the ledger"
        assert (found[number].outcome, found[number].request_id) == ("ok", received.request_id)
    missing = entries.keys() - found.keys()
    assert lost_leases or not missing, f"calls reached the upstream and left no record: {sorted(missing)}"
    for number, record in found.items():
        if record.outcome == "unsettled":
            assert record.estimated
            assert record.cost_usd
        else:
            entry = entries[number]
            assert (record.response_id, record.estimated) == (entry["id"], False)
            assert record.total_token_count == entry["usage"]["total_token_count"]
    return Counter(record.outcome for record in records)
