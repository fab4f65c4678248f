"""What operators see of an upstream's last attempts."""

from __future__ import annotations

import pytest

from proxy.telemetry.metrics import ATTEMPT_OUTCOMES
from proxy.upstreams.health import Why
from proxy.upstreams.observed import SMOOTHING, Observed


def test_latency_is_the_first_answers_and_then_follows_those_after_it() -> None:
    observed = Observed()
    assert observed.latency_s is None
    observed.answered(2.0)
    assert observed.latency_s == 2.0
    observed.answered(12.0)
    assert observed.latency_s == pytest.approx(2.0 + 10.0 * SMOOTHING)
    for _ in range(100):
        observed.answered(5.0)
    assert observed.latency_s == pytest.approx(5.0, abs=0.001)


def test_the_last_error_is_kept_and_no_other() -> None:
    observed = Observed()
    observed.failed(1.0, "unreachable: no route")
    observed.failed(2.0, "503 overloaded", b"{}")
    assert observed.last_error == (2.0, "503 overloaded", b"{}")
    observed.answered(1.0)
    assert observed.last_error is not None, "an answer doesn't make it forgotten"


def test_every_reason_to_be_out_is_an_outcome_that_metrics_begin_with() -> None:
    assert {str(why) for why in Why} < set(ATTEMPT_OUTCOMES)
