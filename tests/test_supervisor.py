"""One process over the others: real forks, real signals. tests/supervised.py is what runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from proxy.process import Process
from proxy.supervisor import FIRST_PAUSE_S, LONGEST_PAUSE_S, STEADY_S, Child
from tests.journeys.watching import until

RESPAWNS = 200
ALL = ("worker 0", "worker 1", "control process")


class Supervised:
    """The program, and the lines that it and its processes have told so far."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.lines: list[str] = []
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *options: str, ready: bool = True) -> None:
        """Starts it; `ready`: and waits until all are."""
        command = [sys.executable, "-m", "tests.supervised", *options]
        with (self._folder / "log").open("a") as log:
            self.started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True))
        if ready:
            self.read("opened")

    @property
    def pid(self) -> int:
        return self.started[-1].pid

    def read(self, line: str, times: int = 1) -> None:
        """Reads on until this line has come so many times, from whichever of them."""
        stdout = self.started[-1].stdout
        assert stdout is not None
        while self.lines.count(line) < times:
            self.lines.append(stdout.readline().rstrip("\n"))
            assert self.lines[-1], f"it ended, and {line!r} wasn't told: {self.lines}"

    def pids(self, process: str) -> list[int]:
        """Of this one, and of those in whose place it is."""
        return [int(line.rpartition(" ")[2]) for line in self.lines if line.startswith(f"{process} is ")]

    def reborn(self, process: str, times: int) -> int:
        """Reads on until so many have taken its place; the pid of the last."""
        stdout = self.started[-1].stdout
        assert stdout is not None
        while len(self.pids(process)) <= times:
            self.lines.append(stdout.readline().rstrip("\n"))
            assert self.lines[-1], f"it ended: {self.lines}"
        return self.pids(process)[-1]

    def tell(self, number: signal.Signals) -> None:
        self.started[-1].send_signal(number)

    def ended(self) -> int:
        """Waits for its end, and for that of all the others: they hold its standard output. The exit status."""
        stdout = self.started[-1].stdout
        assert stdout is not None
        self.lines += stdout.read().splitlines()
        return self.started[-1].wait(30)

    def log(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in (self._folder / "log").read_text().splitlines()]

    def close(self) -> None:
        for process in self.started:
            process.kill()  # the others end with it
            assert process.stdout is not None
            process.stdout.close()
            process.wait(30)


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    with closing(Supervised(tmp_path)) as program:
        yield program


def test_who_dies_is_replaced_and_nothing_is_left_of_it(supervised: Supervised) -> None:
    """200 times: the successor is what the dead one was, gets the signals, and no descriptor stays open in either."""
    supervised.start()
    order = [line for line in supervised.lines if " is " in line or line == "opened"]
    assert [line.partition(" is ")[0] for line in order] == [*ALL, "opened"], "one after the other"
    descriptors = held(supervised.pid)
    of_worker = held(supervised.pids("worker 1")[0])
    for number in range(RESPAWNS):
        os.kill(supervised.pids("worker 1")[-1], signal.SIGKILL)
        supervised.reborn("worker 1", number + 1)
    os.kill(supervised.pids("control process")[-1], signal.SIGKILL)
    supervised.reborn("control process", 1)
    assert supervised.lines.count("died worker 1") == RESPAWNS
    assert held(supervised.pid) == descriptors
    until(lambda: held(supervised.pids("worker 1")[-1]) <= of_worker, "no more than the first had")
    groups = [os.getpgid(supervised.pids(process)[-1]) for process in ALL]
    assert groups == [supervised.pids(process)[-1] for process in ALL], "Ctrl-C in a terminal reaches none of them"
    supervised.tell(signal.SIGHUP)
    for process in ALL:
        supervised.read(f"{process} got SIGHUP")
    supervised.tell(signal.SIGTERM)
    assert supervised.ended() == 0
    deaths = [line for line in supervised.log() if line["event"] == "process_died"]
    assert [line["process"] for line in deaths] == ["worker 1"] * RESPAWNS + ["control process"]
    assert {line["how"] for line in deaths} == {"signal 9"}


def held(pid: int) -> int:
    """How many descriptors a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def test_the_control_process_ends_when_no_worker_is_left(supervised: Supervised) -> None:
    """SIGTERM is for all; nobody is replaced from then on."""
    supervised.start()
    supervised.tell(signal.SIGTERM)
    assert supervised.ended() == 0
    lines = supervised.lines[supervised.lines.index("stopping") :]
    told = [line for line in lines if "control" in line]
    assert told == ["control process got SIGTERM", "control process got SIGINT", "died control process"]
    assert max(map(lines.index, ("died worker 0", "died worker 1"))) < lines.index("control process got SIGINT")
    assert lines[-1] == "over"


def test_ctrl_c_reaches_the_workers_each_time(supervised: Supervised) -> None:
    """And the control process, which isn't ready any more, once they have ended."""
    supervised.start("--interrupts", "2")
    supervised.tell(signal.SIGINT)
    for line in ("worker 0 got SIGINT", "worker 1 got SIGINT", "control process got SIGTERM"):
        supervised.read(line)
    supervised.tell(signal.SIGINT)
    assert supervised.ended() == 0
    assert supervised.lines.count("worker 0 got SIGINT") == supervised.lines.count("worker 1 got SIGINT") == 2
    assert supervised.lines.count("stopping") == supervised.lines.count("control process got SIGINT") == 1


@pytest.mark.parametrize("process", ALL)
def test_where_one_cannot_start_none_is_left_running(supervised: Supervised, process: str) -> None:
    """Its exit status is that of all; the doors were never said to be open."""
    supervised.start("--fails", process, ready=False)
    assert supervised.ended() == 3
    assert "opened" not in supervised.lines
    assert [line.partition(" is ")[0] for line in supervised.lines if " is " in line] == list(
        ALL[: ALL.index(process) + 1]
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_start_that_hangs_can_be_ended(supervised: Supervised, number: signal.Signals) -> None:
    supervised.start("--hangs", "worker 1", ready=False)
    supervised.reborn("worker 1", 0)
    supervised.tell(number)
    assert supervised.ended() == 128 + number
    assert "opened" not in supervised.lines


def test_when_the_supervisor_dies_all_others_know(supervised: Supervised) -> None:
    """Also one that took another's place."""
    supervised.start()
    os.kill(supervised.pids("worker 0")[0], signal.SIGKILL)
    supervised.reborn("worker 0", 1)
    supervised.tell(signal.SIGKILL)
    supervised.ended()
    assert sorted(line for line in supervised.lines if "orphaned" in line) == sorted(
        f"{process} is orphaned" for process in ALL
    )


def test_a_worker_that_ends_badly_at_the_end_is_told(supervised: Supervised) -> None:
    """Its exit status is that of the whole: whoever started it must look at the log."""
    supervised.start("--ends-with", "74")
    supervised.tell(signal.SIGTERM)
    assert supervised.ended() == 74
    assert [line["how"] for line in supervised.log()] == ["exit status 74"] * 2


def test_where_the_machine_has_no_room_for_a_process_the_start_fails(supervised: Supervised) -> None:
    supervised.start("--forks", "2", ready=False)
    assert supervised.ended() == 71
    assert [supervised.lines.count(f"{process} got SIGINT") for process in ALL] == [1, 1, 0]
    (line,) = supervised.log()
    assert (line["event"], line["process"]) == ("no_process", "control process")


def test_where_there_is_no_room_for_a_successor_it_is_tried_again(supervised: Supervised) -> None:
    supervised.start("--forks", "3")
    os.kill(supervised.pids("worker 0")[0], signal.SIGKILL)
    supervised.reborn("worker 0", 1)
    lines = until(lambda: found if len(found := supervised.log()) >= 2 else [], "a thread has written what was told")
    assert [line["event"] for line in lines] == ["process_died", "no_process"]
    supervised.tell(signal.SIGTERM)
    assert supervised.ended() == 0


def test_who_dies_soon_is_replaced_after_a_pause_that_doubles() -> None:
    child, now, pauses = Child(Process()), 1000.0, []
    for _ in range(9):
        child.started_at = now
        child.pause(now + 1)
        pauses.append(child.pause_s)
        now = child.due_at
    assert pauses[:4] == [FIRST_PAUSE_S, FIRST_PAUSE_S * 2, FIRST_PAUSE_S * 4, FIRST_PAUSE_S * 8]
    assert pauses[-1] == LONGEST_PAUSE_S
    child.started_at = now
    child.pause(now + STEADY_S)
    assert child.pause_s == 0
