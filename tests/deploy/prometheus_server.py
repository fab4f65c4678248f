"""A real Prometheus for tests: it runs the configuration that is deployed, with other targets and shorter intervals."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import httpx2

from tests.journeys.watching import DEADLINE_S, until
from tests.pages import ROOT
from tests.redis_servers import free_port

DEPLOYED = ROOT / "deploy" / "prometheus"
CONFIG = DEPLOYED / "prometheus.yml"
RULES = DEPLOYED / "alerts.yml"


class Sample(NamedTuple):
    """One element of an instant vector."""

    labels: dict[str, str]
    """`__name__` among them, where it has one."""
    value: float


class Series(NamedTuple):
    """One series as it was scraped: Unix seconds and values."""

    labels: dict[str, str]
    samples: list[tuple[float, float]]


def has_prometheus() -> bool:
    return shutil.which("prometheus") is not None and shutil.which("promtool") is not None


def promtool(*arguments: str | Path, cwd: Path = ROOT) -> tuple[int, str]:
    """Runs it to its end; its exit code, and all that it says."""
    command = ["promtool", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout + done.stderr


def configured(targets: Sequence[str], interval: str, rules: Sequence[Path]) -> str:
    """deploy/prometheus/prometheus.yml but for these: `targets` (host:port), intervals, where rules are."""
    text = CONFIG.read_text("utf-8")
    files = "\n".join(f"  - {path}" for path in rules) or "  []"
    quoted = ", ".join(f'"{target}"' for target in targets)
    for pattern, new in (
        (r"(?m)^( +(?:scrape|evaluation)_interval: ).*$", rf"\g<1>{interval}"),
        (r"(?m)^rule_files:\n(?:  - .*\n)+", f"rule_files:\n{files}\n"),
        (r"(?m)^(      - targets: )\[.*\]$", rf"\g<1>[{quoted}]"),
    ):
        text, times = re.subn(pattern, new, text)
        assert times, f"{CONFIG} has nothing like {pattern}"
    return text


@dataclass
class Prometheus:
    """A running one. `url` is its own API."""

    url: str
    client: httpx2.Client

    def ask(self, path: str, **parameters: str) -> Any:
        """`data` of an answer of /api/v1. A query that it doesn't understand fails the test with its words."""
        answer = self.client.get(f"{self.url}/api/v1/{path}", params=parameters)
        told = answer.json()
        assert told["status"] == "success", f"{parameters}: {told.get('error')}"
        return told["data"]

    def query(self, expression: str, at: float | None = None) -> list[Sample]:
        """An instant query, now or at a time in Unix seconds; a scalar is a vector of one without labels."""
        when = {} if at is None else {"time": repr(at)}
        data = self.ask("query", query=expression, **when)
        if data["resultType"] == "scalar":
            return [Sample({}, float(data["result"][1]))]
        assert data["resultType"] == "vector", f"{expression} is a {data['resultType']}"
        return [Sample(one["metric"], float(one["value"][1])) for one in data["result"]]

    def series(self, selector: str, seconds: float) -> list[Series]:
        """What was scraped of these within so many seconds up to now, as it was scraped."""
        data = self.ask("query", query=f"{selector}[{math.ceil(seconds)}s]")
        return [
            Series(one["metric"], [(float(at), float(value)) for at, value in one["values"]]) for one in data["result"]
        ]

    def rules(self) -> list[dict[str, Any]]:
        """Every rule that it has loaded, as /api/v1/rules tells it: `name`, `query`, `labels`, `annotations` …"""
        return [rule for group in self.ask("rules")["groups"] for rule in group["rules"]]

    def scraped(self, times: int = 1) -> None:
        """Waits until each target has answered so many scrapes that began after now."""
        for _ in range(times):
            asked = time.time()
            until(lambda: self._healthy_since(asked), "every target is scraped")  # noqa: B023

    def _healthy_since(self, moment: float) -> bool:
        targets = self.ask("targets", state="active")["activeTargets"]
        return bool(targets) and all(one["health"] == "up" and _seconds(one["lastScrape"]) > moment for one in targets)

    def told(self, expression: str, enough: Callable[[list[Sample]], object] = bool) -> list[Sample]:
        """Waits until a query's answer is enough: until it has one, if not said otherwise."""
        found: list[Sample] = []

        def asked() -> bool:
            found[:] = self.query(expression)
            return bool(enough(found))

        until(asked, expression)
        return found


def _seconds(stamp: str) -> float:
    """RFC 3339 with nanoseconds, in UTC or not, as Unix seconds."""
    return datetime.fromisoformat(re.sub(r"\.(\d{6})\d*", r".\1", stamp.replace("Z", "+00:00"))).timestamp()


@contextmanager
def running_prometheus(
    folder: Path,
    targets: Sequence[str],
    interval: str = "250ms",
    rules: Sequence[Path] = (RULES,),
) -> Iterator[Prometheus]:
    """A Prometheus on a free port, its files in `folder`; stopped at the end.

    `targets` are host:port of control doors (or their URLs). It scrapes and evaluates every `interval`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    bare = [re.sub(r"^https?://", "", target).rstrip("/") for target in targets]
    (folder / "prometheus.yml").write_text(configured(bare, interval, rules))
    address = f"127.0.0.1:{free_port()}"
    given = {
        "config.file": str(folder / "prometheus.yml"),
        "storage.tsdb.path": str(folder / "data"),
        "web.listen-address": address,
        "log.level": "warn",
    }
    with (folder / "log").open("ab") as log:
        command = ["prometheus", *(f"--{name}={value}" for name, value in given.items())]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        with httpx2.Client(timeout=DEADLINE_S, trust_env=False) as client:
            until(lambda: _ready(process, client, address, folder / "log"), "Prometheus is ready")
            yield Prometheus(f"http://{address}", client)
    finally:
        process.kill()
        process.wait(30)


def _ready(process: subprocess.Popen[bytes], client: httpx2.Client, address: str, log: Path) -> bool:
    assert process.poll() is None, log.read_text()
    try:
        return client.get(f"http://{address}/-/ready").status_code == 200
    except httpx2.TransportError:
        return False
