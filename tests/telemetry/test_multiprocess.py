"""What workers count, in real processes, and what a scrape of the control process makes of it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.parser import text_string_to_metric_families

from proxy.telemetry import multiprocess
from proxy.telemetry.metrics import MAX_PROJECTS, Metrics

WORKER = """
import sys
from pathlib import Path
import structlog
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.multiprocess import ProcessFiles
structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
folder = Path(sys.argv[1])
files = ProcessFiles(folder, sys.argv[2])
metrics = Metrics("1", ["m"], folder, files)
metrics.know_upstreams({"google": True, "gone": False})
files.write()
print("begun", flush=True)
for line in sys.stdin:
    number, project = line.split()
    for _ in range(int(number)):
        metrics.finished(project, "generateContent", "m", 200, 0.01)
    metrics.in_flight.set(int(number))
    metrics.upstream_changed("google", number != "0")
    metrics.models_out({"google": int(number)})
    files.write()
    print("written", flush=True)
"""
"""Answers so many requests of a project as each line of its input says, and then has that many in flight."""


class Worker:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def answers(self, requests: int, project: str = "alice") -> None:
        assert self.process.stdin is not None
        print(requests, project, file=self.process.stdin, flush=True)
        self.told("written")

    def told(self, word: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == word


@contextmanager
def worker(folder: Path, name: str) -> Iterator[Worker]:
    command = [sys.executable, "-c", WORKER, str(folder), name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        started = Worker(process)
        started.told("begun")
        try:
            yield started
        finally:
            process.kill()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    multiprocess.clear(tmp_path / "metrics")
    return tmp_path / "metrics"


def scraped(metrics: Metrics) -> dict[str, float]:
    """Samples by name; those with other labels are added up."""
    return sums_of(metrics.exposition().decode())


def sums_of(exposition: str) -> dict[str, float]:
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            sums[sample.name] = sums.get(sample.name, 0) + sample.value
    return sums


def test_what_workers_count_is_added_up_also_after_one_was_replaced(folder: Path, at_end: ExitStack) -> None:
    """No counter goes down when a worker dies; what it had in flight is gone with it; its successor goes on."""
    control = Metrics("1", ["m"], folder)
    control.know_upstreams({"google": True})
    one, other = (at_end.enter_context(worker(folder, name)) for name in ("0", "1"))
    one.answers(3)
    other.answers(4)
    control.finished("alice", "generateContent", "m", 200, 0.01)
    seen = scraped(control)
    assert seen["weighbridge_requests_total"] == seen["weighbridge_request_duration_seconds_count"] == 8
    assert seen["weighbridge_in_flight_requests"] == 7
    assert (seen["weighbridge_upstream_available"], seen["weighbridge_build_info"]) == (1, 1), "not one a process"
    one.process.send_signal(signal.SIGKILL)
    one.process.wait(30)
    multiprocess.forget(folder, "0")
    seen = scraped(control)
    assert (seen["weighbridge_requests_total"], seen["weighbridge_in_flight_requests"]) == (8, 4)
    successor = at_end.enter_context(worker(folder, "0"))
    assert scraped(control)["weighbridge_requests_total"] == 8
    successor.answers(2)
    seen = scraped(control)
    assert (seen["weighbridge_requests_total"], seen["weighbridge_in_flight_requests"]) == (10, 6)


CONTROL = """
import sys
from pathlib import Path
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.multiprocess import ProcessFiles
folder = Path(sys.argv[1])
metrics = Metrics("1", ["m"], folder, ProcessFiles(folder, "control"))
for number in range(int(sys.argv[2])):
    metrics.finished("alice", "generateContent", "m", 200, 0.01)
    metrics.config_reloads.labels("rejected").inc()
print(metrics.exposition().decode(), "# scraped", flush=True)
sys.stdin.read()
"""
"""Counts so much, and is scraped once."""


def scraped_of_control(folder: Path, counts: int) -> dict[str, float]:
    """What a control process tells that is killed then, before it has written anything by itself."""
    command = [sys.executable, "-c", CONTROL, str(folder), str(counts)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = "".join(iter(process.stdout.readline, " # scraped\n"))
        process.kill()
    multiprocess.forget(folder, "control")
    return sums_of(told)


def test_no_counter_goes_down_when_the_control_process_is_replaced(folder: Path, at_end: ExitStack) -> None:
    """To Prometheus all that the workers ever counted would be counted anew."""
    at_end.enter_context(worker(folder, "0")).answers(100)
    for told in (3, 6):
        seen = scraped_of_control(folder, 3)
        assert seen["weighbridge_requests_total"] == seen["weighbridge_request_duration_seconds_count"] == 100 + told
        assert (seen["weighbridge_config_reloads_total"], seen["weighbridge_build_info"]) == (told, 1)


def test_a_file_that_is_being_made_is_passed_over(folder: Path) -> None:
    """A worker may also have died making it."""
    (folder / "counter_3.db").touch()
    assert "weighbridge_requests_total" not in scraped(Metrics("1", ["m"], folder))


@pytest.mark.parametrize(
    "damage", [b"\x40", b"damaged " * 512, b"\x40\0\0\0" + b"\x20\0\0\0" * 64], ids=["cut", "text", "keys"]
)
def test_a_damaged_file_keeps_no_worker_from_serving(
    folder: Path, damage: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    """What it counted is lost, and said to be; what another one counted stays."""
    for name in ("0", "1"):
        with worker(folder, name) as former:
            former.answers(5)
    (folder / "counter_0.db").write_bytes(damage)
    with worker(folder, "0") as successor:
        successor.answers(2)
        assert scraped(Metrics("1", ["m"], folder))["weighbridge_requests_total"] == 7
    assert "metrics_files_damaged" in capfd.readouterr().err


def test_a_start_begins_at_nothing(folder: Path) -> None:
    with worker(folder, "0") as former:
        former.answers(5)
    assert scraped(Metrics("1", ["m"], folder))["weighbridge_requests_total"] == 5
    multiprocess.clear(folder)
    assert "weighbridge_requests_total" not in scraped(Metrics("1", ["m"], folder))
    assert oct(folder.stat().st_mode & 0o777) == "0o700"


def test_what_workers_alone_find_out_of_an_upstream_is_told(folder: Path, at_end: ExitStack) -> None:
    """One that can't be reached from here, the control process never calls: it is out if any of them says so."""
    control = Metrics("1", ["m"], folder)
    control.know_upstreams({"google": True})
    one, other = (at_end.enter_context(worker(folder, name)) for name in ("0", "1"))
    assert scraped(control)["weighbridge_upstream_available"] == 1, "not one a process, nor one that is there no more"
    one.answers(0)
    assert scraped(control)["weighbridge_upstream_available"] == 0
    one.answers(2)
    other.answers(3)
    seen = scraped(control)
    assert (seen["weighbridge_upstream_available"], seen["weighbridge_upstream_models_out"]) == (1, 3)
    other.answers(0)
    other.process.kill()
    other.process.wait(30)
    multiprocess.forget(folder, "1")
    assert scraped(control)["weighbridge_upstream_available"] == 1, "what it thought died with it"


JUNK = """
import sys
from pathlib import Path
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.multiprocess import ProcessFiles
from tests.telemetry.test_metrics import junk
files = ProcessFiles(Path(sys.argv[1]), sys.argv[2])
metrics = Metrics("1", [], Path(sys.argv[1]), files, most=300)
junk(metrics, range(int(sys.argv[3]), int(sys.argv[4])))
files.write()
"""


def test_files_and_series_stay_bounded_however_many_workers_die(folder: Path) -> None:
    """Each worker has named a thousand projects, and not the same: all together have a thousand. Who takes a dead one's
    place names those that that one did."""

    def values() -> int:
        files = map(MmapedDict.read_all_values_from_file, folder.iterdir())
        return sum(len(list(file)) for file in files)

    def projects() -> set[str]:
        return set(re.findall('project="(.*?)"', control.exposition().decode()))

    control = Metrics("1", [], folder)
    for slot, begin in (("0", 0), ("1", 1500)):
        subprocess.run([sys.executable, "-c", JUNK, str(folder), slot, str(begin), str(begin + 1500)], check=True)
    before, named = values(), projects()
    assert len(list(folder.iterdir())) == 2 * 5, "counters, histograms, and gauges of three kinds"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 32 << 20
    assert len(named) == MAX_PROJECTS + 1
    multiprocess.forget(folder, "0")
    subprocess.run([sys.executable, "-c", JUNK, str(folder), "0", "3000", "4500"], check=True)
    assert values() <= before
    assert projects() == named


def test_a_process_that_was_replaced_is_counted_by_the_one_over_them(folder: Path) -> None:
    control = Metrics("1", ["m"], folder)
    assert scraped(control)["weighbridge_workers_replaced_total"] == 0
    multiprocess.count_replaced(folder)
    multiprocess.count_replaced(folder)
    assert scraped(control)["weighbridge_workers_replaced_total"] == 2


FULL = """
import resource, sys
from pathlib import Path
from proxy.telemetry import multiprocess
from proxy.telemetry.metrics import Metrics
folder = Path(sys.argv[1])
files = multiprocess.ProcessFiles(folder, "0")
metrics = Metrics("1", ["m"], folder, files)
files.write()
before = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, before[1]))
for number in range(500):
    metrics.finished(f"project-{number}", "generateContent", "m", 200, 0.01)
files.write()
print("went on", flush=True)
resource.setrlimit(resource.RLIMIT_FSIZE, before)
files.write()
"""
"""A file that may not grow refuses as a full disk does."""


def test_a_full_disk_costs_no_process_and_what_had_no_room_is_written_when_there_is_some(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL, str(tmp_path)]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, timeout=60)
    assert (ended.returncode, ended.stdout) == (0, "went on\n")
    written = MmapedDict.read_all_values_from_file(str(tmp_path / "counter_0.db"))  # type: ignore[no-untyped-call]
    assert sum(value for key, value, *_ in written if "weighbridge_requests_total" in key) == 500


def test_of_what_is_mapped_every_block_is_there(tmp_path: Path) -> None:
    """A write into a hole, on a full disk, kills the process."""
    with worker(tmp_path, "0") as one:
        for number in range(400):
            one.answers(1, f"project-{number}")
        multiprocess.count_replaced(tmp_path)
        files = {path.name: path.stat() for path in tmp_path.glob("*.db")}
    assert files["counter_0.db"].st_size > 65_536
    assert [name for name, file in files.items() if file.st_blocks * 512 < file.st_size] == []
