"""The log tells of a model without a price once an hour, however many calls there are."""

from __future__ import annotations

from structlog.testing import capture_logs

from proxy.billing.unpriced import HOUR_US, MOST_MODELS, Unpriced
from tests.billing.sample import NOON, sample


def told(unpriced: Unpriced, *calls: tuple[str, int]) -> list[str]:
    with capture_logs() as logs:
        for number, (model, at) in enumerate(calls):
            rates = {"input_text": (7, 1), "output_image": (1120, None)}
            unpriced.tell(sample(f"r{number}", model=model, started_at=at, cost_usd=None, rates=rates))
    assert {log["event"] for log in logs} <= {"model_unpriced"}
    assert {log["lacking"] for log in logs} <= {"output_image"}
    return [log["model"] for log in logs]


def test_a_model_is_told_once_an_hour_and_each_for_itself() -> None:
    unpriced = Unpriced()
    assert told(unpriced, ("a", NOON), ("a", NOON + 1), ("b", NOON + 2), ("a", NOON + HOUR_US - 1)) == ["a", "b"]
    assert told(unpriced, ("a", NOON + HOUR_US), ("b", NOON + HOUR_US), ("a", NOON + HOUR_US)) == ["a", "b"]


def test_a_call_that_began_in_an_hour_gone_by_does_not_begin_that_hour_anew() -> None:
    unpriced = Unpriced()
    assert told(unpriced, ("a", NOON), ("a", NOON - 1), ("a", NOON)) == ["a"]


def test_what_is_kept_of_an_hour_has_a_bound() -> None:
    unpriced = Unpriced()
    assert len(told(unpriced, *((f"m{number}", NOON) for number in range(3 * MOST_MODELS)))) == MOST_MODELS
