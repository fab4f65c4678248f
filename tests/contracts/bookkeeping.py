"""One process's lease, ledger and counters together, that may die at any commit.

`Process` is the real thing but for its wire: the scales (gateway/weighing.py), the ledger with its file, a limiter.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple, cast

from pydantic import SecretStr

from proxy.billing import ledger as ledgers
from proxy.billing.ledger import Ledger
from proxy.billing.ledger_errors import LedgerBroken
from proxy.billing.ledger_file import LedgerFile
from proxy.billing.ledger_reading import ledger_files
from proxy.billing.periods import Days
from proxy.billing.prices import PriceBook
from proxy.billing.unpriced import Unpriced
from proxy.config.limits import parse
from proxy.config.quotas import Quota
from proxy.config.upstreams import Upstream
from proxy.control import rebuild
from proxy.errors import Outcome, Reason, Sent, UpstreamFailed
from proxy.gateway.client import Client
from proxy.gateway.in_flight import free_calls
from proxy.gateway.limiting import Limits
from proxy.gateway.quotas import Quotas
from proxy.gateway.weigher import Weigher
from proxy.gateway.weighing import Weighing
from proxy.gemini import bodies, calls
from proxy.limits.algorithm import History
from proxy.limits.interface import Counter, Limiter, counters
from proxy.limits.money import Spending
from proxy.telemetry.metrics import Metrics
from proxy.tenants.keys import Tenant
from proxy.tenants.policy import Policy
from proxy.upstreams.error_answer import ErrorAnswer

S = 1_000_000
TEXT, IMAGE = "gemini-3.8-flash", "gemini-3.1-flash-image"
DAYS = Days("UTC")


def _limits(*texts: str) -> tuple[Any, ...]:
    return tuple(parse(text) for text in texts)


_ALICE = _limits(
    *("rpm=6", "tpm=150", "rpd=9", "ipm=3", "concurrency=4", "ipm=2,model=*-image", "rpd=1,shadow"),
    *("usd=0.08,per=day", "usd=0.02,per=month,shadow", "usd=0.15,per=total,model=*-image"),
)
TENANTS = (
    Tenant("alice", "key_a", "a", Policy(project_limits=_ALICE, key_limits=_limits("rpm=3", "rpd=5", "concurrency=2"))),
    Tenant("alice", "key_b", "b", Policy(project_limits=_ALICE)),
    Tenant(
        *("bob", "key_c", "c"),
        Policy(
            project_limits=_limits("rpm=4", "tpm=60", "rpd=6", "concurrency=1"), key_limits=_limits("usd=1,per=total")
        ),
    ),
)
"""Who calls. A kind of limit that is new is put here, and its rule into `Expected.used`."""


def limits_of(tenant: Tenant) -> tuple[Counter, ...]:
    return counters(tenant.project, tenant.key_id, tenant.policy.project_limits, tenant.policy.key_limits)


UPSTREAM = Upstream(
    name="google",
    api_key=SecretStr("key"),
    limits=Quota(dict.fromkeys(("rpm", "tpm", "rpd", "ipm"), 10**9), spend=10**15),
)
"""Where they go. It has room for all: what is to be seen is what it counts."""
AT_UPSTREAM = Tenant("@google", "", "", Policy())
"""In place of who calls, in what attempts take of it."""


class Fault(Enum):
    """What becomes of a commit. After the first two the process is dead."""

    UNWRITTEN = "the process died before it was written"
    UNTOLD = "it was written, and the process died before anybody was told"
    LOCKED = "another process has the file locked for a moment"
    FULL = "the disk is full for a moment"


DEADLY = (Fault.UNWRITTEN, Fault.UNTOLD)
_CODES = {Fault.LOCKED: sqlite3.SQLITE_BUSY, Fault.FULL: sqlite3.SQLITE_FULL}


class FailingFile(LedgerFile):
    """A ledger file whose next commit meets a fault, where a test says so."""

    fault: Fault | None = None

    def commit(
        self, leases: Sequence[Sequence[Any]], records: Sequence[Sequence[Any]], dropped: Sequence[Sequence[Any]]
    ) -> None:
        fault, self.fault = self.fault, None
        if fault in (None, Fault.UNTOLD):
            super().commit(leases, records, dropped)
        if fault is not None:
            error = sqlite3.OperationalError(fault.value)
            error.sqlite_errorcode = _CODES.get(fault, sqlite3.SQLITE_IOERR_FSYNC)
            raise error

    def abandon(self) -> None:
        """Left to `Process.die`, which has copied by then what it holds."""


@dataclass
class _Connection:
    """What a Client asks of its connection."""

    request_id: str
    gone: bool = False
    when_gone: object = None


class Answer(NamedTuple):
    """The head of a response."""

    status: int
    headers: Sequence[tuple[bytes, bytes]] = ()


class Process:
    """A worker from its start to its end, orderly or not, on the files that the one before left."""

    def __init__(
        self,
        data_dir: Path,
        now_us: Callable[[], int],
        monotonic: Callable[[], float],
        book: PriceBook,
        number: int,
    ) -> None:
        self.data_dir = data_dir
        self._now_us = now_us
        self._monotonic = monotonic
        self._number = number
        self._ids = iter(range(10**6))
        self.died = False
        self.ledger = Ledger.open(
            data_dir, now_us=now_us, on_broken=self._on_broken, ballast_bytes=0, tick_s=0.002, patience_s=20
        )
        self._file = cast("FailingFile", self.ledger._writer._file)
        self._book = book
        self.on_death: Callable[[], object] = lambda: None

    def history(self) -> History:
        """What its counters begin with."""
        return rebuild.history(self.files, DAYS, self._now_us(), self._monotonic)

    def spent(self) -> list[Spending]:
        """What its budgets begin with."""
        return list(rebuild.spent(self.files, DAYS, self._now_us()))

    @property
    def files(self) -> list[Path]:
        return ledger_files(self.data_dir)

    def serve(self, limiter: Limiter) -> None:
        self.limiter = limiter
        self.quotas = Quotas(limiter, [UPSTREAM], self._now_us)
        metrics = Metrics("0", [TEXT, IMAGE])
        self._weigher = Weigher(
            ledger=self.ledger,
            limits=Limits(limiter, DAYS, metrics, self._now_us, free_calls()),
            quotas=self.quotas,
            book=self._book,
            days=DAYS,
            metrics=metrics,
            unpriced=Unpriced(),
            refuse_unpriced=False,
            hold_worst=False,
            drain_after_disconnect_s=0,
            now=self._now_us,
            monotonic=lambda: 0.0,
            new_id=self._new_id,
        )

    def _new_id(self) -> str:
        return f"{self._number:03}-{next(self._ids):05}"

    def _on_broken(self, broken: LedgerBroken) -> None:
        """The server ends itself here: none of its tasks has another turn."""
        self.died = True
        self.on_death()

    def weigh(self, tenant: Tenant, model: str, size: int) -> Weighing:
        """A call with so many bytes of text."""
        call = calls.parse("POST", f"/v1beta/models/{model}:generateContent".encode(), b"")
        body = json.dumps({"contents": [{"parts": [{"text": "x" * size}]}]}).encode()
        facts = bodies.skim(body).read(call.operation.name, model, frozenset())
        scope = {"extensions": {"weighbridge": _Connection(self._new_id())}}
        client = Client(scope, cast("Any", None), 0.0)
        client.asks(call)
        return cast("Weighing", self._weigher.weigh(call, tenant, client, facts, len(body), UPSTREAM.name))

    async def meets(self, fault: Fault | None) -> None:
        """Lets the next commit meet a fault. Whatever was posted is written by then, and the ledger open to calls."""
        await self.quiet()
        self._file.fault = fault

    async def quiet(self) -> None:
        """Waits until all that was posted is written, and the ledger lets calls in."""
        if self.died:
            return
        with suppress(LedgerBroken):
            await self.ledger._post(ledgers.Kind.DROP, ("nothing",))
            while not (self.ledger.available or self.died):  # a thread sets it, and tells nobody
                await asyncio.sleep(0.001)

    async def dies(self, successor: Path) -> None:
        """Killed. `successor` gets the files as they are: what the kernel has of them, no more is done to them."""
        self.on_death()
        shutil.copytree(self.data_dir, successor)
        if self.died:
            self._file._connection.close()
            os.close(self._file._lock)
        else:
            await self.ledger.close()

    async def ends(self) -> None:
        await self.ledger.close()


async def breaks_off(weighing: Weighing) -> None:
    """The upstream does, before it has said anything of usage."""
    weighing.goes_up()
    weighing.meter(cast("Any", Answer(200)), 0.1)
    await left_by(weighing, UpstreamFailed(Reason.UPSTREAM_UNREACHABLE, "it broke off", Sent.WHOLE))


async def refuses(weighing: Weighing) -> None:
    """The upstream does."""
    weighing.goes_up()
    await weighing.settle_error(UPSTREAM.name, ErrorAnswer(429, [], b"", b""), 0.1)


async def left_by(weighing: Weighing, error: BaseException) -> None:
    await weighing.__aexit__(type(error), error, None)


OUTPUT_TOKENS = 5
_NANOS = {TEXT: (750, 3_750, 3_750), IMAGE: (500, 3_000, 60_000)}
"""Of a model's token: of a prompt, of an answer, and of an answer with a picture in it."""


def cost(model: str, tokens: int, images: int) -> int:
    """What `answered` costs, in nano-dollars."""
    prompt, text, picture = _NANOS[model]
    return tokens * prompt + OUTPUT_TOKENS * (picture if images else text)


async def answered(weighing: Weighing, tokens: int, images: int) -> None:
    """With usage, and so many pictures."""
    weighing.goes_up()
    meter = weighing.meter(cast("Any", Answer(200)), 0.1)
    parts = [{"inlineData": {"mimeType": "image/png", "data": "AAAA"}}] * images
    output = {"candidatesTokenCount": OUTPUT_TOKENS, "totalTokenCount": tokens + OUTPUT_TOKENS}
    usage = {"promptTokenCount": tokens, **output}
    text = json.dumps({"candidates": [{"content": {"parts": parts}}], "usageMetadata": usage})
    await meter.feed(text.encode())
    await weighing.settle(Outcome.OK)
