"""Metrics of several processes: each worker writes its own into files, and who is scraped adds them up.

It is prometheus-client's multiprocess mode (https://prometheus.github.io/client_python/multiprocess/), but for two
things. A worker counts in memory and writes once a second what has changed: to write at each count, into a mapped file,
would be a tenth of a small call, and a worker that is killed takes no more than its last second with it. And of gauges
only those are written that are made one of all workers' (`together` in declared.py); every other is told by the control
process alone, which knows as much as any worker. What the control process itself counts is written likewise: to
Prometheus a sum that goes down, as when it lacks a dead process's share, has begun anew, all of it.
"""

from __future__ import annotations

import json
import os
import struct
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Metric, values
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("weighbridge")

MADE_ONE: Mapping[str, Callable[[float, float], float]] = {"livesum": float.__add__, "livemin": min, "livemax": max}
"""How a gauge of the workers and the control process's own are."""
REPLACED = "weighbridge_workers_replaced"
_AT_FIRST = 65_536
"""Bytes of a file. It doubles when it is full."""
_ABOUT_A_KEY = 32
"""Bytes that a value takes beside its key, at most: two doubles, a length, blanks."""


def clear(folder: Path) -> None:
    """Removes what the processes of a former start counted. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in folder.glob("*.db"):
        path.unlink()


def forget(folder: Path, process: str) -> None:
    """One has died: what it had in flight is in flight no more. What it counted stays counted."""
    mark_process_dead(process, str(folder))  # type: ignore[no-untyped-call]


def count_replaced(folder: Path) -> None:
    """One more process died and is replaced. Told by the process over them, which tells no metrics itself."""
    key = json.dumps([REPLACED, f"{REPLACED}_total", {}, ""])
    with suppress(OSError):  # a full disk: what replaces processes must go on
        file = _Allocated(str(folder / "counter_supervisor.db"))
        value, _ = file.read_value(key)  # type: ignore[no-untyped-call]
        file.write_value(key, value + 1, 0.0)  # type: ignore[no-untyped-call]
        file.close()  # type: ignore[no-untyped-call]


class _Allocated(MmapedDict):
    """A file whose blocks are there before they are written. The library leaves a hole, and where a full disk has no
    block for it, the first write into its mapping kills the process (SIGBUS)."""

    def __init__(self, filename: str, read_mode: bool = False) -> None:
        """Raises OSError."""
        with Path(filename).open("ab") as file:
            if not file.tell():
                os.posix_fallocate(file.fileno(), 0, _AT_FIRST)
        super().__init__(filename, read_mode)  # type: ignore[no-untyped-call]

    def _init_value(self, key: str) -> None:
        """Raises OSError; then nothing has changed."""
        size, needed = self._capacity, self._used + len(key.encode()) + _ABOUT_A_KEY
        while size < needed:
            size *= 2
        if size > self._capacity:
            os.posix_fallocate(self._f.fileno(), 0, size)
        super()._init_value(key)  # type: ignore[no-untyped-call]


class ProcessFiles:
    """The files of a worker, or of the control process. From when they are made, every metric of this process has its
    values in them."""

    def __init__(self, folder: Path, process: str) -> None:
        """One that takes a dead one's place, under the same name, goes on from what that one had written."""
        self.process = process
        self._writing = threading.Lock()
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
        # What is removed stays in the file; `_made_one` knows what there is.
        warnings.filterwarnings("ignore", "Removal of labels has not been implemented")
        self.known = _taken_over(folder, process)
        """What that one had series of, each by its metric's name and its labels."""
        values.MmapedDict = _Allocated  # type: ignore[attr-defined]
        written = values.MultiProcessValue(lambda: process)  # type: ignore[no-untyped-call]
        self._values: dict[tuple[str, Any], Any] = {}
        known = self._values

        class Value(values.MutexValue):
            """`written`: where it stands in a file; of a gauge, from the first `write` on, lest it be read as 0."""

            def __init__(
                self, kind: str, metric: str, name: str, labels: Any, of: Any, _help: str, multiprocess_mode: str = ""
            ) -> None:
                super().__init__(kind, metric, name, labels, of, "")  # type: ignore[no-untyped-call]
                if kind == "gauge" and multiprocess_mode not in MADE_ONE:
                    return
                # Without the help: it would stand in the file with each value.
                self.begin = partial(written, kind, metric, name, labels, of, "", multiprocess_mode)
                self.written = None
                if kind != "gauge":
                    with suppress(OSError):  # a full disk: `write` tries again
                        self.written = self.begin()
                self._value = self.was = 0.0 if self.written is None else self.written.get()
                known[name, tuple(of)] = self

        values.ValueClass = Value

    def write(self) -> None:
        """Writes what has changed since it was last called. What a full disk has no room for is written later."""
        with self._writing:
            for value in tuple(self._values.values()):
                now = value.get()
                if value.written is None:
                    try:
                        value.written = value.begin()
                    except OSError:
                        continue
                elif now == value.was:
                    continue
                value.was = now
                value.written.set(now)


def _taken_over(folder: Path, process: str) -> tuple[tuple[str, dict[str, str]], ...]:
    """The series of a dead one's files. Where one is damaged, all of them are removed: they must not keep who takes its
    place from serving."""
    paths = tuple(folder.glob(f"*_{process}.db"))
    try:
        return tuple(_series(paths))
    except (RuntimeError, ValueError, struct.error) as error:  # what the library and JSON say to it
        for path in paths:
            path.unlink()
        log.error("metrics_files_damaged", why=str(error), what="removed: what this process counted begins at 0 again")
        return ()


def _series(paths: Iterable[Path]) -> Iterator[tuple[str, dict[str, str]]]:
    """What files have values of, each once: of a histogram there are many of the same."""
    seen: set[tuple[str, tuple[tuple[str, str], ...]]] = set()
    for path in _begun(paths):
        for key, *_ in MmapedDict.read_all_values_from_file(path):  # type: ignore[no-untyped-call]
            metric, _, labels, _ = json.loads(key)
            labels.pop("le", None)
            one = metric, tuple(labels.items())
            if one not in seen:
                seen.add(one)
                yield metric, labels


class AddedUp(Collector):
    """The metrics of all workers, by their files, with those of this process."""

    def __init__(
        self, folder: Path, own: CollectorRegistry, project: Callable[[str], str], files: ProcessFiles | None
    ) -> None:
        """`project` gives a project's label: each worker has named a thousand, and not the same. `files` are this
        process's own."""
        self._folder = folder
        self._own = own
        self._project = project
        self._files = files

    def collect(self) -> Iterator[Metric]:
        families = list(self._own.collect())
        if self._files is not None:
            self._files.write()  # what is told now, the one that takes this one's place must tell as well
        files = list(_begun(self._of_others()))
        workers = MultiProcessCollector.merge(files, accumulate=True)  # type: ignore[no-untyped-call]
        of_workers: dict[str, Metric] = {family.name: family for family in workers}
        for own in families:
            theirs = of_workers.pop(own.name, None)
            if theirs is not None:
                if own.type == "gauge":
                    own.samples = _made_one(own, theirs)
                else:
                    own.samples = self._sum(own, theirs)
            yield own

    def _of_others(self) -> Iterator[Path]:
        mine = None if self._files is None else f"_{self._files.process}.db"
        return (path for path in self._folder.glob("*.db") if mine is None or not path.name.endswith(mine))

    def _sum(self, *families: Metric) -> list[Sample]:
        """Samples of the same name and labels added, in the order in which they are first met."""
        sums: dict[tuple[Any, ...], Sample] = {}
        for family in families:
            for sample in family.samples:
                if "project" in sample.labels:
                    sample.labels["project"] = self._project(sample.labels["project"])
                key = sample.name, *sorted(sample.labels.items())
                stands = sums.get(key)
                sums[key] = sample if stands is None else stands._replace(value=stands.value + sample.value)
        return list(sums.values())


def _made_one(own: Metric, theirs: Metric) -> list[Sample]:
    """A gauge of what this process knows to exist: an upstream that a reload took away stays in workers' files."""
    one = MADE_ONE[theirs._multiprocess_mode]  # type: ignore[attr-defined]
    found = {frozenset(sample.labels.items()): sample.value for sample in theirs.samples}
    samples: list[Sample] = []
    for sample in own.samples:
        value = found.get(frozenset(sample.labels.items()))
        samples.append(sample if value is None else sample._replace(value=one(sample.value, value)))
    return samples


def _begun(paths: Iterable[Path]) -> Iterator[str]:
    """The files that can be read: one that a worker is about to make, or died making, is empty."""
    for path in paths:
        with suppress(FileNotFoundError):
            if path.stat().st_size:
                yield str(path)
