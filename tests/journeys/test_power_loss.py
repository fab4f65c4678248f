"""The power goes off: what a client received whole is in a ledger that opens; keys, revocations, the admin token hold.

The disk is watched call by call (tests/disk.py), so one run under load is as many power losses as one likes: at each
point, what had been fsynced is what is left, alone or with any part of the rest.
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from proxy.billing import reports
from proxy.billing.ledger import close_out
from proxy.billing.ledger_file import LedgerFile
from proxy.billing.ledger_reading import ledger_files
from proxy.config.schema import Storage
from proxy.control.admin import token
from proxy.store.database import open_database
from proxy.tenants import keys
from tests.disk import Disk, Replay, lay_out
from tests.journeys.numbered import Load, account, compare, forget, numbered
from tests.journeys.watching import TEXT
from tests.proof import Proof, sized
from tests.stand import Weighbridge, weighbridge

UNWATCHED = ("-shm", ".ballast")


def found_in(root: Path) -> dict[str, bytes]:
    """What really stands where the disk was watched."""
    paths = (path for path in (root / "data").rglob("*") if path.is_file() and not path.name.endswith(UNWATCHED))
    return {f"/{path.relative_to(root)}": path.read_bytes() for path in paths}


@dataclass
class Run:
    """What is known of a run under load, to be held against what a power loss leaves of it."""

    disk: Disk
    stand: Weighbridge
    load: Load
    key: str = ""
    keys: frozenset[str] = frozenset()
    created: int = 0
    revoked: str = ""
    no_more: int = 0
    """The point at which the command had said that the key is revoked."""
    started: int = 0
    """The point at which the server had said that it serves."""
    admin_token: str | None = None
    entries: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)

    async def under_load(self, calls: int) -> None:
        """Makes two keys and calls with one of them, the while the other is revoked; ends all in order."""
        self._command("project", "create", "alice")
        kept, revoked = (self._command("key", "create", "alice") for _ in range(2))
        self.key, self.keys = kept["key"], frozenset((kept["id"], revoked["id"]))
        self.created, self.revoked = self.disk.now, revoked["id"]
        self.stand.start()
        self.started, self.admin_token = self.disk.now, token.read(self.stand.data_dir, {})
        calling = asyncio.get_running_loop().create_task(self.load.run(self.stand, self.key))
        await self.load.more(calls // 2)
        await asyncio.to_thread(self._command, "key", "revoke", self.revoked)
        self.no_more = self.disk.now
        await self.load.more(calls // 2)
        self.load.enough = True
        await calling
        assert await asyncio.to_thread(self.stand.stop) == 0
        self.entries = account(self.stand.upstream_url)

    def _command(self, *arguments: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.stand.run(*arguments, "--json"))
        return found

    def holds(self, folder: Path, cut: int) -> Counter[str]:
        """Looks at what was recovered of a power loss at `cut`. Counts the outcomes that the ledger tells."""
        for file in ("ledger/0.db", "weighbridge.db"):
            with closing(sqlite3.connect(folder / "data" / file)) as connection:
                assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        found = {key.id: key.revoked_at for key in keys.list_keys(open_database(Storage(data_dir=folder / "data")))}
        assert cut < self.created or found.keys() == self.keys, "a key is lost"
        assert cut < self.no_more or found[self.revoked], "a revoked key is valid again"
        left = token.read(folder / "data", {})
        assert left == self.admin_token or (cut < self.started and left is None), "the admin token is lost or broken"
        whole = {number: whole for number, whole in self.load.whole.items() if whole.at <= cut}
        records = list(reports.export(ledger_files(folder / "data")))
        return compare(records, self.entries, whole, lost_leases=True)


def recover(data_dir: Path) -> None:
    """What a start does with the files that it finds."""
    open_database(Storage(data_dir=data_dir))
    file = LedgerFile.open(data_dir, busy_timeout_s=1, ballast_bytes=4096, random=random.randbytes)
    close_out(file, 1)
    assert file.open_leases() == []
    file.close()


def serve_again(folder: Path, run: Run) -> None:
    """A server starts on what is left, and takes calls with the key that it finds there."""
    with weighbridge(folder, run.stand.upstream_url) as stand:
        headers = {"x-goog-api-key": run.key}
        answer = httpx2.post(f"{stand.base_url}{TEXT}generateContent", content=numbered(0), headers=headers)
        assert answer.status_code == 200
        request_id = answer.headers["x-weighbridge-request-id"]
        assert [record.outcome for record in stand.records() if record.request_id == request_id] == ["ok"]


async def test_power_loss(upstream: str, watched_disk: Disk, tmp_path: Path, at_end: ExitStack, proof: Proof) -> None:
    """Whatever else was lost: what was received whole before the power went off is in the ledger once."""
    forget(upstream)
    chance = random.Random(seed := random.randrange(10**9))
    print("seed", seed)
    stand = at_end.enter_context(
        closing(Weighbridge(watched_disk.root, upstream, environment=watched_disk.environment))
    )
    run = Run(watched_disk, stand, Load(seed, clock=lambda: watched_disk.now))
    await run.under_load(sized(300, 2400))

    calls = watched_disk.calls()
    cuts = [
        *chance.choices([whole.at for whole in run.load.whole.values()], k=sized(10, 150)),
        run.created,
        run.started,
        run.no_more,
        *(call.at for call in calls if "admin-token" in call.path + call.to),
    ]
    cuts += [call.at for call in chance.choices(calls, k=sized(10, 150))]
    outcomes: Counter[str] = Counter()
    replay = Replay(calls)
    for cut in sorted(cuts):
        replay.forward(cut)
        for more in (None, chance):
            folder = tmp_path / "after"
            lay_out(replay.after_power_loss(more), folder)
            recover(folder / "data")
            outcomes += run.holds(folder, cut)
            shutil.rmtree(folder)
    for cut in chance.sample(sorted({whole.at for whole in run.load.whole.values()}), k=sized(1, 10)):
        replay = Replay(calls)
        replay.forward(cut)
        lay_out(replay.after_power_loss(chance), folder)
        serve_again(folder, run)
        shutil.rmtree(folder)
    replay.forward(watched_disk.now)
    assert {path: data for path, data in replay.seen().items() if not path.endswith(UNWATCHED)} == found_in(
        run.disk.root
    )
    proof(
        power_losses=2 * len(cuts) + sized(1, 10),
        calls=run.load.numbers,
        received_whole=len(run.load.whole),
        records_found=dict(outcomes),
    )
