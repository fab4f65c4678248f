"""Scraped data held against the rules that are deployed: a run whose minutes are told by a clock that the test sets.

A run lives through an hour of the server's wall clock in seconds. After each minute of it a real Prometheus scrapes;
what it got then is that minute's sample, as it came. promtool evaluates the deployed rules, unchanged, over these
samples, one a minute: alerts that must hold for ten minutes are seen to hold for ten.
"""

from __future__ import annotations

import bisect
import json
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.clock import Clock
from tests.deploy.prometheus_server import RULES, Prometheus, Series, promtool

MINUTE_S = 60
WHAT = "alertname", "severity", "project", "model", "upstream", "instance", "reason", "operation"
FIRED = f'group by ({", ".join(WHAT)}) (max_over_time(ALERTS{{alertstate="firing"}}[1d]))'
"""Whatever fired up to then, for however short a time."""


class Drill:
    """The minutes of a run, and what was scraped in each."""

    def __init__(self, clock: Clock, prometheus: Prometheus) -> None:
        self._clock = clock
        self._prometheus = prometheus
        self._began = time.time()
        self._ends: list[float] = []

    @property
    def minutes(self) -> int:
        """How many there were; the first sample is of minute 0."""
        return len(self._ends)

    def minute(self, of: Callable[[], object] = lambda: None) -> None:
        """One more: the clock goes on, `of` happens, and then it is scraped."""
        self._clock.step(MINUTE_S)
        of()
        self._prometheus.scraped()
        self._ends.append(time.time())

    def samples(self) -> list[dict[str, str]]:
        """promtool's input series: of each minute what its last scrape got, `_` where a series wasn't in it.

        `up` is among them, as it was: rules tell by it which scrapes were answered. A scrape that a busy machine
        didn't answer within the test's short interval is passed over.
        """
        found = self._prometheus.series('{job="weighbridge"}', time.time() - self._began + 1)
        (up,) = (one for one in found if one.labels["__name__"] == "up")
        scrapes = self._last_of_each_minute(at for at, value in up.samples if value)
        assert len(scrapes) == self.minutes
        return [{"series": _written(one.labels), "values": _values(one, scrapes)} for one in found]

    def _last_of_each_minute(self, scrapes: Iterable[float]) -> list[float]:
        minutes = {bisect.bisect_left(self._ends, at): at for at in scrapes if at >= self._began}
        return [at for minute, at in sorted(minutes.items()) if minute < self.minutes]

    def fired(self, folder: Path, by_minute: Mapping[int, Iterable[Mapping[str, str]]]) -> None:
        """Fails unless exactly these alerts had fired by these minutes, by the deployed rules."""
        tests = [
            {
                "expr": FIRED,
                "eval_time": f"{minute}m",
                "exp_samples": [{"labels": _written(labels), "value": 1} for labels in expected],
            }
            for minute, expected in by_minute.items()
        ]
        checked: dict[str, Any] = {
            "rule_files": [str(RULES)],
            "evaluation_interval": "15s",
            "tests": [{"interval": f"{MINUTE_S}s", "input_series": self.samples(), "promql_expr_test": tests}],
        }
        file = folder / "drill.yml"
        file.write_text(json.dumps(checked, indent=1))  # JSON is YAML, too
        code, said = promtool("test", "rules", file)
        assert code == 0, said


def _values(series: Series, scrapes: Iterable[float]) -> str:
    """All that one scrape got bears the same time."""
    samples = dict(series.samples)
    return " ".join(repr(samples[at]) if at in samples else "_" for at in scrapes)


def _written(labels: Mapping[str, str]) -> str:
    """As PromQL writes a series."""
    name = labels.get("__name__", "")
    return f"{name}{{{', '.join(f'{key}={json.dumps(value)}' for key, value in labels.items() if key != '__name__')}}}"
