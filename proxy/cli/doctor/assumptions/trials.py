"""Which assumptions an answer can tell of, by what, and what to do about one that doesn't hold."""

from __future__ import annotations

from typing import NamedTuple

from proxy.billing.assumptions import ASSUMPTIONS
from proxy.cli.doctor.assumptions import on_models, on_pictures, on_usage
from proxy.cli.doctor.assumptions.verdicts import Answers, Held, Judge, Verdict

MISREAD = "report it with the answers that were kept; `usage reconcile` says by how much the bill errs meanwhile"
RATES = "give the model its rates with [[prices]], or take a newer price book: `weighbridge prices update`"
SIZES = "report it with the answers that were kept; calls whose usage has details are charged by these all the same"
ESTIMATE = "nothing on the bill of calls that report their usage changes; report it with the answers that were kept"
RERATE = f"{RATES}; then `weighbridge ledger rerate` prices what was charged meanwhile"
BILL = "only Google's bill tells: `weighbridge usage reconcile`"


class Trial(NamedTuple):
    judge: Judge
    do: str


TRIALS: dict[str, Trial] = {
    "A-USAGE-IS-SENT": Trial(on_usage.usage_is_sent, MISREAD),
    "A-OUTPUT-IS-REST": Trial(on_usage.output_is_rest, MISREAD),
    "A-TOTAL-IS-THE-SUM": Trial(on_usage.total_is_the_sum, MISREAD),
    "A-UNLABELLED-IS-TEXT": Trial(on_usage.unlabelled_is_text, MISREAD),
    "A-LABELS-AT-MOST-ALL": Trial(on_usage.labels_at_most_all, MISREAD),
    "A-LAST-USAGE-COUNTS": Trial(on_usage.last_usage_counts, MISREAD),
    "A-CAP-BOUNDS-OUTPUT": Trial(on_usage.cap_bounds_output, ESTIMATE),
    "A-PRICED-AS-WHO-ANSWERED": Trial(on_models.priced_as_who_answered, RERATE),
    "A-AUTO-ROUTED": Trial(on_models.auto_routed, RERATE),
    "A-TIER-AS-SERVED": Trial(on_models.tier_as_served, MISREAD),
    "A-UNKNOWN-TIER-IS-STANDARD": Trial(on_models.unknown_tier_is_standard, RERATE),
    "A-SEARCHES-REPEAT": Trial(on_models.searches_repeat, MISREAD),
    "A-IMAGE-REST-IS-TEXT": Trial(on_pictures.image_rest_is_text, MISREAD),
    "A-NO-DETAILS-IS-IMAGE": Trial(on_pictures.no_details_is_image, SIZES),
    "A-SIZES-FOR-ALL-RATIOS": Trial(on_pictures.sizes_for_all_ratios, SIZES),
    "A-SIZES-FROM-PRICES": Trial(on_pictures.sizes_from_prices, SIZES),
    "A-PICTURE-IS-DEFAULT": Trial(on_pictures.picture_is_default, ESTIMATE),
    "E-TEXT": Trial(on_pictures.estimate_of_text, ESTIMATE),
    "E-PICTURE": Trial(on_pictures.estimate_of_picture, ESTIMATE),
    "E-IMAGE-REST": Trial(on_pictures.estimate_of_image_rest, ESTIMATE),
}
"""The others are of what Google charges, which no answer says."""


class Told(NamedTuple):
    """What became of one assumption."""

    name: str
    says: str
    verdict: Held
    seen: str
    bill: str
    do: str
    """What to do; empty where it held."""


def tell(answers: Answers) -> list[Told]:
    """What the answers say of every assumption there is."""
    told = []
    for name, assumption in ASSUMPTIONS.items():
        trial = TRIALS.get(name)
        held, seen = _judged(trial, answers)
        do = trial.do if trial and held is Held.FAILED else "" if held is Held.HELD else BILL
        told.append(Told(name, assumption.says, held, seen, assumption.bill, do))
    return told


def _judged(trial: Trial | None, answers: Answers) -> Verdict:
    if trial is None:
        return Held.UNTRIED, ""
    try:
        return trial.judge(answers)
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # JSON, and not of Google's types
        return Held.UNKNOWN, f"an answer can't be read: {error!r}"
