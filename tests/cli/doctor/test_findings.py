"""Checks run side by side, each for a bounded time; one that fails takes none of the others with it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from proxy.cli.doctor.findings import Finding, Verdict, examine, ok, problem


def test_checks_run_side_by_side_and_are_told_in_their_order() -> None:
    met = threading.Barrier(2, timeout=10)

    def check(what: str) -> Iterator[Finding]:
        met.wait()
        yield ok(what)

    found = examine({"one": lambda: check("first"), "two": lambda: check("second")})
    assert list(found.items()) == [("one", [ok("first")]), ("two", [ok("second")])]


def test_one_that_hangs_is_told_with_what_it_had_found_by_then() -> None:
    over = threading.Event()

    def hangs() -> Iterator[Finding]:
        yield ok("so far")
        over.wait()

    found = examine({"hangs": hangs, "other": lambda: [ok("fine")]}, limit_s=0.2)
    over.set()
    assert found["other"] == [ok("fine")]
    assert [finding.verdict for finding in found["hangs"]] == [Verdict.OK, Verdict.PROBLEM]
    assert found["hangs"][1].what == "gave no answer within 0.2 s"


def test_one_that_fails_is_a_finding() -> None:
    def forbidden() -> Iterator[Finding]:
        yield ok("so far")
        raise PermissionError(13, "Permission denied", "/var/lib/secret")

    def mistaken() -> list[Finding]:
        raise ValueError("a mistake of ours")

    found = examine({"forbidden": forbidden, "mistaken": mistaken})
    assert found["forbidden"][1].what == "/var/lib/secret: Permission denied"
    assert "the server's user" in found["forbidden"][1].do
    assert found["mistaken"] == [
        problem("could not be checked: ValueError('a mistake of ours')", "please report this as a bug")
    ]
