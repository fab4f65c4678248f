"""What a check finds, how checks are run: side by side, each for a bounded time; and how findings are told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from proxy.cli import output

LIMIT_S = 12.0
"""How long all checks together may take. What hangs longer is a finding, too."""
CLOCK_WARNS_S, CLOCK_FAILS_S = 5, 60
"""How far another's clock may be from this machine's."""


class Verdict(StrEnum):
    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


class Finding(NamedTuple):
    """One fact, and where it isn't fine what to do."""

    verdict: Verdict
    what: str
    do: str = ""


Check = Callable[[], Iterable[Finding]]
"""Yields what it finds. It changes nothing."""


def ok(what: str) -> Finding:
    return Finding(Verdict.OK, what)


def warning(what: str, do: str) -> Finding:
    """Calls are served, and something may go wrong later."""
    return Finding(Verdict.WARNING, what, do)


def problem(what: str, do: str) -> Finding:
    """The server doesn't start, or calls fail."""
    return Finding(Verdict.PROBLEM, what, do)


def examine(checks: Mapping[str, Check], limit_s: float = LIMIT_S) -> dict[str, list[Finding]]:
    """What each check found, in the order given. One that fails, or isn't done in time, is a problem of its own.

    Threads that hang are left behind: they end with the process.
    """
    found: dict[str, list[Finding]] = {name: [] for name in checks}
    threads = {
        name: threading.Thread(target=_run, args=(check, found[name]), name=name, daemon=True)
        for name, check in checks.items()
    }
    for thread in threads.values():
        thread.start()
    give_up = time.monotonic() + limit_s
    for name, thread in threads.items():
        thread.join(max(0.0, give_up - time.monotonic()))
        if thread.is_alive():
            unanswered = problem(
                f"gave no answer within {limit_s:g} s", "look at what it asks: a disk, or a network that doesn't answer"
            )
            found[name] = [*found[name], unanswered]
    return found


def _run(check: Check, found: list[Finding]) -> None:
    try:
        for finding in check():
            found.append(finding)
    except OSError as error:
        at = f"{error.filename}: " if error.filename else ""
        found.append(
            problem(f"{at}{error.strerror or repr(error)}", "see who owns it; doctor is to run as the server's user")
        )
    except Exception as error:  # of one check: the others have their say
        found.append(problem(f"could not be checked: {error!r}", "please report this as a bug"))


def tell(told: Sequence[tuple[str, Finding]], *, json: bool) -> bool:
    """Prints findings, each with its check's name. Returns whether there is no problem among them."""
    counts = {verdict: sum(finding.verdict is verdict for _, finding in told) for verdict in Verdict}
    if json:
        rows = [{"check": name, **finding._asdict()} for name, finding in told]
        output.document({"ok": not counts[Verdict.PROBLEM], "findings": rows})
    else:
        _print(told, counts)
    return not counts[Verdict.PROBLEM]


def _print(told: Sequence[tuple[str, Finding]], counts: Mapping[Verdict, int]) -> None:
    width = max(len(name) for name, _ in told)
    for name, finding in told:
        output.line(f"{finding.verdict:7}  {name:{width}}  {finding.what}")
        if finding.do:
            output.line(f"{'':{width + 9}}  → {finding.do}")
    output.line()
    output.line(", ".join(f"{count} {_counted(verdict, count)}" for verdict, count in counts.items() if count))


def _counted(verdict: Verdict, count: int) -> str:
    return verdict if verdict is Verdict.OK or count == 1 else f"{verdict}s"
