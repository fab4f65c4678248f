"""What can be said of an assumption, and of which answers."""

from __future__ import annotations

import pytest

from proxy.cli.doctor.assumptions.verdicts import verdict
from tests.cli.doctor.assumptions.contrary import answered, said, usage


@pytest.mark.parametrize(
    ("failed", "held", "told"),
    [
        (["a", "b"], ["c"], ("failed", "a; b")),
        ([], ["c", "d"], ("held", "c; d")),
        ([], [], ("unknown", "nothing seen")),
    ],
)
def test_what_speaks_against_it_outweighs_what_speaks_for_it(
    failed: list[str], held: list[str], told: tuple[str, str]
) -> None:
    assert verdict(failed, held, "nothing seen") == told


def test_counts_of_tokens_are_no_metered_calls_and_calls_without_usage_tell_nothing_of_it() -> None:
    answers = answered(text=said(usage()), capped=said(None), count_text={"totalTokens": 5})
    assert [name for name, _ in answers.metered()] == ["text", "capped"]
    assert [(name, spent.total_token_count) for name, _, spent in answers.used()] == [("text", 15)]
