"""What answers tell of how usage is counted: it is there, adds up, has a bound, and is a stream's running total."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from typing import Any

from proxy.billing import estimates
from proxy.cli.doctor.assumptions.answers import Answer
from proxy.cli.doctor.assumptions.verdicts import Answers, Held, Verdict, verdict
from proxy.gemini import scanner
from proxy.gemini import usage as usages
from proxy.gemini.usage import Details, Usage, details

NO_USAGE = "no answer had a usage"


def usage_is_sent(answers: Answers) -> Verdict:
    metered = dict(answers.metered())
    without = [f"{name}: no usage that amounts to anything" for name in metered if not metered[name].quantities]
    return verdict(without, [f"{len(metered)} answers, each with its usage"] if metered else [], "no answer")


def output_is_rest(answers: Answers) -> Verdict:
    """The total is prompt, tool use, candidates and thoughts; or thoughts that stand twice are in it once."""
    failed, held = [], 0
    for name, _, usage in answers.used():
        candidates, thoughts = usage.candidates_token_count or 0, usage.thoughts_token_count or 0
        if usage.total_token_count is None or not candidates + thoughts:
            continue
        rest = usage.total_token_count - _went_in(usage)
        if rest == candidates + thoughts or rest == candidates == thoughts:
            held += 1
        else:
            failed.append(f"{name}: the total leaves {rest} for {candidates} candidate and {thoughts} thought tokens")
    return verdict(failed, [f"the total adds up in {held} answers"] if held else [], NO_USAGE)


def total_is_the_sum(answers: Answers) -> Verdict:
    failed, held = [], 0
    for name, _, usage in answers.used():
        total, known = usage.total_token_count, _went_in(usage)
        if total is None:
            failed.append(f"{name}: no total")
        elif total < known:
            failed.append(f"{name}: {known} tokens went in, the total is {total}")
        else:
            held += 1
    return verdict(failed, [f"{held} answers have a total, and it covers what went in"] if held else [], NO_USAGE)


def unlabelled_is_text(answers: Answers) -> Verdict:
    """Of prompts that are text and nothing else, no label says otherwise."""
    failed, held = [], 0
    for name, _, usage in answers.used():
        claims = details(usage.prompt_tokens_details) or {}
        if odd := {label: tokens for label, tokens in claims.items() if tokens and label != "TEXT"}:
            failed.append(f"{name}: a prompt of text is labelled {odd}")
        elif usage.prompt_token_count:
            held += usage.prompt_token_count > claims.get("TEXT", 0)
    if failed:
        return Held.FAILED, "; ".join(failed)
    seen = f"{held} prompts of text had tokens without a label" if held else "each token of a prompt was labelled"
    return (Held.HELD, seen) if next(answers.used(), None) else (Held.UNKNOWN, NO_USAGE)


def labels_at_most_all(answers: Answers) -> Verdict:
    failed, held = [], 0
    for name, _, usage in answers.used():
        output = usages.total_tokens(usage) - _went_in(usage)
        pairs: tuple[tuple[str, Details | None, int | None], ...] = (
            ("prompt", usage.prompt_tokens_details, usage.prompt_token_count),
            ("cached", usage.cache_tokens_details, usage.cached_content_token_count),
            ("output", usage.candidates_tokens_details, output),
        )
        for what, entries, count in pairs:
            claimed = sum((details(entries) or {}).values())
            held += 0 < claimed <= (count or 0)
            if claimed > (count or 0):
                failed.append(f"{name}: labels claim {claimed} {what} tokens of {count or 0}")
    return verdict(failed, [f"{held} lists of details claim no more than was counted"] if held else [], "no details")


def cap_bounds_output(answers: Answers) -> Verdict:
    failed, held = [], []
    for name, answer, usage in answers.used():
        output, cap = usages.total_tokens(usage) - _went_in(usage), answer.call.cap
        if cap and output > cap:
            failed.append(f"{name}: {output} tokens of output, though maxOutputTokens was {cap}")
        elif name == "capped" and answer.reading and answer.reading.finish_reason == "MAX_TOKENS":
            held.append(f"cut off at {output} tokens, thinking included, where maxOutputTokens was {cap}")
    return verdict(failed, held, "nothing was cut off")


def last_usage_counts(answers: Answers) -> Verdict:
    """Running totals end near what the text weighs; what each event counts for itself adds up to that."""
    answer = answers.of.get("stream")
    counts, text = ([], "") if answer is None else _stream(answer)
    if not counts or not text:
        return Held.UNKNOWN, "no stream with a usage and a text"
    if len(counts) == 1:
        return Held.HELD, f"one event has a usage, of {counts[0]} tokens: there is nothing to add up"
    weighs = max(1, len(text.encode()) // estimates.BYTES_PER_TOKEN)
    last, added = counts[-1], sum(counts)
    seen = f"{len(counts)} events end at {last} tokens and add up to {added}; the text weighs about {weighs}"
    falls = any(later < earlier for earlier, later in pairwise(counts))
    near = abs(math.log(last / weighs)) < abs(math.log(added / weighs))
    return (Held.HELD if near and not falls else Held.FAILED), seen


def _went_in(usage: Usage) -> int:
    return (usage.prompt_token_count or 0) + (usage.tool_use_prompt_token_count or 0)


def _stream(answer: Answer) -> tuple[list[int], str]:
    """The candidate tokens that each event counts, where it counts any, and the text of all."""
    counts, text = [], []
    for document in answer.documents:
        raw = scanner.scan("single", document).usage
        if raw is not None and (count := usages.parse(raw).candidates_token_count):
            counts.append(count)
        for candidate in candidates(document):
            parts = (candidate.get("content") or {}).get("parts") or []
            text += [str(part.get("text", "")) for part in parts if not part.get("thought")]
    return counts, "".join(text)


def candidates(document: bytes) -> list[dict[str, Any]]:
    """Those of one document, which the gateway's reading found whole."""
    found: list[dict[str, Any]] = json.loads(document).get("candidates") or []
    return found
