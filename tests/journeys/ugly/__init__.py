"""Answers that other gateways billed wrongly, or might have: what the upstream says, and what the record must say.

What is charged is worked out by hand, at the rates of the price book in USD per million. Only models are asked whose
rates change on no announced day. docs/metering.md names the threads behind many of the cases.
"""

from __future__ import annotations

from tests.journeys.ugly import ends, pictures, rates, samples, usages
from tests.journeys.ugly.case import Case


def cases() -> list[Case]:
    return [case for module in (usages, pictures, ends, rates, samples) for case in module.cases()]
