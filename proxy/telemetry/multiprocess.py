"""Metrics of several processes: each worker writes its own into files, and who is scraped adds them up.

It is prometheus-client's multiprocess mode (https://prometheus.github.io/client_python/multiprocess/), but for one
thing: a worker counts in memory and writes once a second what has changed. To write at each count, into a mapped file,
would be a tenth of a small call. A worker that is killed takes its last second of counts with it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Metric, values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

PER_WORKER = frozenset(("weighbridge_in_flight_requests",))
"""Gauges that are added up. Every other is told by the control process alone, which knows as much as any worker."""


def clear(folder: Path) -> None:
    """Removes what the processes of a former start counted. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in folder.glob("*.db"):
        path.unlink()


def forget(folder: Path, worker: str) -> None:
    """One has died: what it had in flight is in flight no more. What it counted stays counted."""
    mark_process_dead(worker, str(folder))  # type: ignore[no-untyped-call]


class WorkerFiles:
    """The files of one worker. From when they are made, every metric of this process has its values in them."""

    def __init__(self, folder: Path, worker: str) -> None:
        """A worker that takes a dead one's place, under the same name, goes on from what that one had written."""
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
        written = values.MultiProcessValue(lambda: worker)  # type: ignore[no-untyped-call]
        self._values: list[Any] = []
        known = self._values

        class Value(values.MutexValue):
            def __init__(self, *arguments: Any, **options: Any) -> None:
                super().__init__(*arguments, **options)  # type: ignore[no-untyped-call]
                self.written = written(*arguments, **options)
                self._value = self.was = self.written.get()
                known.append(self)

        values.ValueClass = Value

    def write(self) -> None:
        """Writes what has changed since it was last called."""
        for value in tuple(self._values):
            now = value.get()
            if now != value.was:
                value.was = now
                value.written.set(now)


class AddedUp(Collector):
    """The metrics of all workers, by their files, with those of this process."""

    def __init__(self, folder: Path, own: CollectorRegistry) -> None:
        self._folder = folder
        self._own = own

    def collect(self) -> Iterator[Metric]:
        files = list(_begun(self._folder))
        workers = MultiProcessCollector.merge(files, accumulate=True)  # type: ignore[no-untyped-call]
        of_workers: dict[str, Metric] = {family.name: family for family in workers}
        for own in self._own.collect():
            theirs = of_workers.pop(own.name, None)
            if theirs is not None and (own.type != "gauge" or own.name in PER_WORKER):
                own.samples = _sum(own, theirs)
            yield own


def _begun(folder: Path) -> Iterator[str]:
    """The files that can be read: one that a worker is about to make, or died making, is empty."""
    for path in folder.glob("*.db"):
        with suppress(FileNotFoundError):
            if path.stat().st_size:
                yield str(path)


def _sum(*families: Metric) -> list[Any]:
    """Samples of the same name and labels added, in the order in which they are first met."""
    sums: dict[tuple[Any, ...], Any] = {}
    for family in families:
        for sample in family.samples:
            key = sample.name, *sorted(sample.labels.items())
            stands = sums.get(key)
            sums[key] = sample if stands is None else stands._replace(value=stands.value + sample.value)
    return list(sums.values())
