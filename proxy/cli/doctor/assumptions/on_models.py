"""What answers tell of who answered, in which tier, and of the searches that it made."""

from __future__ import annotations

from proxy.cli.doctor.assumptions.calls import ROUTED
from proxy.cli.doctor.assumptions.on_usage import candidates
from proxy.cli.doctor.assumptions.verdicts import Answers, Held, Verdict, verdict


def priced_as_who_answered(answers: Answers) -> Verdict:
    """Whoever is named in an answer has a price."""
    failed: list[str] = []
    held: list[str] = []
    for name, answer in answers.metered():
        version = None if answer.reading is None else answer.reading.model_version
        if version is None:
            continue
        if not answers.book.knows(version, answers.at):
            failed.append(f"{name}: {version} answered, which has no price: {answer.call.model} is charged")
        elif version not in held:
            held.append(version)
    return verdict(failed, [f"answered, and priced: {', '.join(held)}"] if held else [], "no answer names its model")


def auto_routed(answers: Answers) -> Verdict:
    answer = answers.of.get("routed")
    version = None if answer is None or answer.reading is None else answer.reading.model_version
    successor = answers.book.model(ROUTED, answers.at)
    if version is None or successor is None or successor.id == ROUTED:
        return Held.UNKNOWN, f"{ROUTED} gave no answer that names its model"
    if version == ROUTED:
        return Held.UNKNOWN, f"{ROUTED} answers under its own name, and is charged as {successor.id}"
    seen = f"{ROUTED} is answered by {version}"
    charged = answers.book.model(version, answers.at)
    return (Held.HELD if charged == successor else Held.FAILED), f"{seen}; the book says {successor.id}"


def tier_as_served(answers: Answers) -> Verdict:
    failed = []
    for name, answer, usage in answers.used():
        said = usage.service_tier
        if said and answer.tier and said.lower() != answer.tier.lower():
            failed.append(f"{name}: the usage says {said}, the header {answer.tier}")
    asked = answers.of.get("flex")
    if asked is not None:
        served = (asked.usage and asked.usage.service_tier) or asked.tier
        if served is None:
            failed.append("flex: asked for, and neither usage nor header says what was served: charged as standard")
        elif not failed and served.lower() == "flex":
            return Held.HELD, "flex was asked for, and the answer says so"
    return verdict(failed, [], "flex wasn't served")


def unknown_tier_is_standard(answers: Answers) -> Verdict:
    tiers = {tier for _, answer, usage in answers.used() if (tier := usage.service_tier or answer.tier)}
    odd = sorted(tier for tier in tiers if tier.lower() not in answers.book.tiers())
    failed = [f"served in {tier}, of which the book knows no rate" for tier in odd]
    return verdict(failed, [f"tiers seen: {', '.join(sorted(tiers))}"] if tiers else [], "no answer names its tier")


def searches_repeat(answers: Answers) -> Verdict:
    """Whatever an event lists, a later one that lists any lists, too."""
    answer = answers.of.get("search")
    lists = [] if answer is None else [found for document in answer.documents if (found := _queries(document))]
    if not lists:
        return Held.UNKNOWN, "no search was made"
    every, most = set().union(*lists), max(len(found) for found in lists)
    seen = f"{len(lists)} events list searches, at most {most} at once, {len(every)} in all"
    return (Held.HELD if len(every) == most else Held.FAILED), seen


def _queries(document: bytes) -> set[tuple[int, str]]:
    """The searches that one event lists, each with its candidate and kind."""
    found = set()
    for candidate in candidates(document):
        grounding = candidate.get("groundingMetadata") or {}
        for name in ("webSearchQueries", "imageSearchQueries"):
            found |= {(candidate.get("index", 0), f"{name}: {query}") for query in grounding.get(name) or ()}
    return found
