"""What answers tell of pictures, made and sent in, and of the estimates of what a request weighs."""

from __future__ import annotations

from collections.abc import Collection

from proxy.billing import estimates
from proxy.cli.doctor.assumptions.calls import PARAGRAPH
from proxy.cli.doctor.assumptions.verdicts import Answers, Held, Verdict, verdict
from proxy.gemini.usage import details

DRAWN = ("image", "image-wide", "image-2k")
FAR_OFF = 2
"""By what factor an estimate may miss: it is for the few calls whose usage nobody saw."""
NO_PICTURE = "no picture came whose tokens are told"


def image_rest_is_text(answers: Answers) -> Verdict:
    """Nothing but images and text is labelled in the output of an image model."""
    failed, held = [], []
    for name, answer, usage in answers.used():
        claims = details(usage.candidates_tokens_details) or {}
        if name not in DRAWN or not claims:
            continue
        if odd := {label: tokens for label, tokens in claims.items() if tokens and label not in ("IMAGE", "TEXT")}:
            failed.append(f"{name}: output is labelled {odd}, too")
        else:
            rest = answer.quantities.get("output_text", 0) - claims.get("TEXT", 0)
            held.append(f"{name}: {rest} tokens beyond the labels {claims}")
    return verdict(failed, held, "no image with details")


def no_details_is_image(answers: Answers) -> Verdict:
    """Where Google says how many tokens were image, the table would have said the same."""
    return _by_table(answers, ("image",))


def sizes_for_all_ratios(answers: Answers) -> Verdict:
    return _by_table(answers, ("image-wide",))


def sizes_from_prices(answers: Answers) -> Verdict:
    return _by_table(answers, ("image-2k",))


def _by_table(answers: Answers, names: Collection[str]) -> Verdict:
    failed, held = [], []
    for name, answer, usage in answers.used():
        tokens = (details(usage.candidates_tokens_details) or {}).get("IMAGE", 0)
        table = answers.book.rates_at(answer.call.model, answers.at)
        size = table and table.image_tokens(answer.call.image_size)
        if name not in names or not tokens or not size or answer.reading is None:
            continue
        seen = f"{name}: {answer.reading.images} picture of {answer.call.image_size} was {tokens} tokens"
        if tokens == answer.reading.images * size:
            held.append(seen)
        else:
            failed.append(f"{seen}, by the table {answer.reading.images * size}")
    return verdict(failed, held, NO_PICTURE)


def picture_is_default(answers: Answers) -> Verdict:
    return _counted_picture(answers, "count-picture-drawn-from")


def estimate_of_picture(answers: Answers) -> Verdict:
    return _counted_picture(answers, "count-picture")


def _counted_picture(answers: Answers, name: str) -> Verdict:
    answer = answers.of.get(name)
    tokens = answer and answer.usage and (details(answer.usage.prompt_tokens_details) or {}).get("IMAGE")
    if answer is None or not tokens:
        return Held.UNKNOWN, NO_PICTURE
    table = answers.book.rates_at(answer.call.model, answers.at)
    figure = (table and table.picture) or estimates.PICTURE_TOKENS
    return _near(f"a picture of 1024 x 1024 is {tokens} tokens to {answer.call.model}", tokens, figure)


def estimate_of_text(answers: Answers) -> Verdict:
    answer = answers.of.get("count-text")
    tokens = answer and answer.usage and (details(answer.usage.prompt_tokens_details) or {}).get("TEXT")
    if not tokens:
        return Held.UNKNOWN, "no text was counted"
    size = len(PARAGRAPH.encode())
    return _near(f"{size} bytes of English are {tokens} tokens", tokens, size // estimates.BYTES_PER_TOKEN)


def estimate_of_image_rest(answers: Answers) -> Verdict:
    rests = [answer.quantities.get("output_text", 0) for name, answer, _ in answers.used() if name in DRAWN]
    if not rests:
        return Held.UNKNOWN, NO_PICTURE
    mean = sum(rests) // len(rests)
    return _near(f"beside the pictures came {', '.join(map(str, rests))} tokens", mean, estimates.IMAGE_REST_TOKENS)


def _near(seen: str, tokens: int, figure: int) -> Verdict:
    near = figure <= tokens * FAR_OFF and tokens <= figure * FAR_OFF
    return (Held.HELD if near else Held.FAILED), f"{seen}; reckoned with are {figure}"
