"""What the scripts are given and what they answer; tests/contracts holds what they do against the algorithm."""

from __future__ import annotations

from proxy.limits import scripts
from proxy.limits.algorithm import State
from proxy.limits.interface import GRANTED, Hold, Over, Verdict
from proxy.limits.scripts import Scripts
from tests.limits.demand import DAY, counter, one

HOLDS = [Hold(counter("rpm", 5), 1), Hold(counter("tpm", 100, shadow=True), 40), Hold(counter("concurrency", 3), 1)]


def test_all_keys_of_a_command_lie_on_one_node_of_a_cluster() -> None:
    """They have the project as hash tag, and nothing else in braces before it."""
    worker, state = Scripts("worker"), State()
    state.charge(0, "lease", DAY, HOLDS)
    held = scripts.held(DAY, HOLDS)
    commands = [
        worker.reserve("lease", held, HOLDS),
        worker.settle("alice", "lease", held, {"tpm": 1}),
        worker.cancel("alice", "lease", held),
        worker.used(DAY, [hold.counter for hold in HOLDS]),
        worker.renew("alice", "{alice}:concurrency", ["lease"]),
        worker.state_some(state, 0, DAY, [hold.counter for hold in HOLDS]),
        *worker.state_all(state, state, "an outage"),
    ]
    for command in commands:
        count = command.arguments[0]
        assert isinstance(count, int)
        assert all(str(key).startswith("wb:{alice}:") for key in command.arguments[1 : count + 1])


def test_a_settle_names_only_what_changes() -> None:
    held = scripts.held(DAY, [*HOLDS, *one("rpd", 5)])
    same = Scripts("worker").settle("alice", "lease", held, {"tpm": 40})
    less = Scripts("worker").settle("alice", "lease", held, {"tpm": 30, "rpm": 0})
    cancelled = Scripts("worker").cancel("alice", "lease", held)
    assert [command.arguments[0] for command in (same, less, cancelled)] == [4, 5, 7]


def test_answers_read_as_verdicts() -> None:
    rpm, tpm, concurrency = (hold.counter for hold in HOLDS)
    assert scripts.verdict([7, scripts.GRANTED_CODE], HOLDS) == GRANTED
    shadowed = Over(tpm, 90, 40, 1500)
    assert scripts.verdict([7, scripts.GRANTED_CODE, 1, 90, 1500], HOLDS) == Verdict(True, (), (shadowed,))
    refused = (Over(rpm, 5, 1, 800), Over(concurrency, 3, 1, None))
    answer = [7, scripts.REFUSED_CODE, 0, 5, 800, 1, 90, 1500, 2, 3, -1]
    assert scripts.verdict(answer, HOLDS) == Verdict(False, refused, (shadowed,))


def test_what_a_lease_holds_is_read_as_it_was_written() -> None:
    held = scripts.held(DAY, HOLDS)
    text = b"1795262400|" + scripts._encode(held)
    assert scripts.entries([b"lease", text]) == {"lease": held}
