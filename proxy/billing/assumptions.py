"""Every assumption behind a cost: what Google doesn't document and is taken to be so, by name, and how it shows.

docs/metering.md (of holds, docs/budgets.md) says why, `prices show` which bear on a model; `doctor --assumptions` tries
those that an answer tells.
"""

from __future__ import annotations

from typing import NamedTuple

from proxy.gemini import openai_bodies

GENERATES = ("generateContent", "streamGenerateContent")
ANSWERS = (*GENERATES, openai_bodies.CHAT)
STREAMS = ("streamGenerateContent",)


class Assumption(NamedTuple):
    """One assumption. A price book that was taken may bring some of its own."""

    applies: str
    """Of which models: a word that `PriceBook.assumptions` knows; "listed": those whose entry in the book names it."""
    says: str
    bill: str = ""
    """How it shows on the bill: where in a record, and whether that is too much or too little if it doesn't hold."""
    operations: tuple[str, ...] = ()
    """The operations that it is about, as the surface table names them; empty: whatever is metered."""


ASSUMPTIONS: dict[str, Assumption] = {
    "A-IMAGE-REST-IS-TEXT": Assumption(
        "image",
        "Output tokens of an image model beyond the IMAGE entry of the details are text and thinking, at the text"
        " output rate.",
        "`output_text` of image calls; too low if that rest is charged as image",
        GENERATES,
    ),
    "A-NO-DETAILS-IS-IMAGE": Assumption(
        "image",
        "Where the details name no images, images received x tokens of their size (at most the output that bears no "
        "label) are image, the rest text.",
        "`output_image` of image calls whose usage has no such details; wrong by what a picture's tokens differ from "
        "the table",
        GENERATES,
    ),
    "A-SIZES-FOR-ALL-RATIOS": Assumption(
        "image",
        "The tokens of a size hold for every aspect ratio.",
        "as A-NO-DETAILS-IS-IMAGE, and in estimates",
        GENERATES,
    ),
    "A-SIZES-FROM-PRICES": Assumption(
        "listed",
        "Tokens of the sizes 2K and 4K are worked back from the published price of an image.",
        "as A-NO-DETAILS-IS-IMAGE, and in estimates, of 2K and 4K",
        GENERATES,
    ),
    "A-PICTURE-IS-DEFAULT": Assumption(
        "listed",
        "In estimates a picture sent in weighs 1120 tokens, the default resolution of Gemini 3.",
        "`input_image` of records marked `estimated`",
        GENERATES,
    ),
    "A-TIERS-ARE-MULTIPLES": Assumption(
        "all",
        "Flex and batch cost half, priority 1.8 times the standard rate, image output included, unless the book "
        "has the rate itself; searches, places, storage and seconds cost the same in each.",
        "every rate of calls with a `service_tier` of flex or priority",
    ),
    "A-CACHED-KEEPS-STANDARD": Assumption(
        "cached standard",
        "Cached tokens cost the standard rate in flex and batch.",
        "`cached_…` of calls in flex; too high if the tier's multiple holds for them, too",
        ANSWERS,
    ),
    "A-VIDEO-BY-THE-SECOND": Assumption(
        "listed",
        "Video costs what its seconds cost in the resolution made, and its prompt nothing.",
        "nothing yet: seconds aren't charged",
        GENERATES,
    ),
    "A-GEMINI-4-ALIKE": Assumption(
        "listed",
        "Searches, look-ups of places, and cached tokens in flex and batch, are priced as gemini-4-argon's.",
        "`search`, and `cached_…` in flex",
    ),
    "A-UNKNOWN-TIER-IS-STANDARD": Assumption(
        "all",
        "A service tier that the book doesn't know is priced as standard.",
        "every rate of calls whose `service_tier` is a word that the book lacks",
    ),
    "A-MODALITY-AS-TEXT": Assumption(
        "all",
        "An input modality without a rate of its own costs the text rate of its kind: documents too; cached "
        "pictures cost cached text.",
        "`input_…` and `cached_…` of media; too low if they have a rate of their own",
    ),
    "A-CACHED-AS-INPUT": Assumption(
        "no cached",
        "Where no rate for cached tokens is published, they cost what they would uncached.",
        "`cached_…`; too high if cached tokens are cheaper",
        ANSWERS,
    ),
    "A-NO-RATE-NO-COST": Assumption(
        "all",
        "An output modality, or searches, without a rate leave the cost of the call unknown (null), never zero "
        "and never the text rate.",
        "`cost_usd` is null, and the call stands among the unpriced ones of `usage report`",
        ANSWERS,
    ),
    "A-THOUGHTS-ARE-TEXT": Assumption(
        "all",
        "Thinking tokens cost the text output rate, shown or not.",
        "`output_text`; too low if thinking has a dearer rate",
        ANSWERS,
    ),
    "A-TOOL-USE-IS-INPUT": Assumption(
        "all",
        "Tool use prompt tokens cost the text input rate.",
        "`input_text`; too high if tool use is free",
        GENERATES,
    ),
    "A-LONG-PROMPT": Assumption(
        "long",
        "What makes a prompt long counts cached and tool use tokens, and a long prompt moves every token of its "
        "call to the long rate.",
        "every rate of calls with a prompt near `long_above`",
    ),
    "A-DATES-ARE-PACIFIC": Assumption(
        "all",
        "New rates hold from midnight in Los Angeles, for calls that start then or later.",
        "every rate of calls in the hours about midnight of a day on which rates change",
    ),
    "A-AUTO-ROUTED": Assumption(
        "auto-routed",
        "Since 2026-10-08 the successor answers and is charged, whatever name the response bears.",
        "`priced_as`, and with it every rate",
    ),
    "A-RETIRED-AS-SUCCESSOR": Assumption(
        "aliased",
        "A retired or pinned id (-preview, -preview-09-2025, -001) costs what the name without the suffix costs.",
        "`priced_as`, and with it every rate",
    ),
    "A-SEARCH-PER-QUERY": Assumption(
        "search per query",
        "Each query in the grounding metadata is charged, those of one prompt too.",
        "`search`; too high if Google charges a prompt once",
        GENERATES,
    ),
    "A-SEARCH-PER-PROMPT": Assumption(
        "search per prompt",
        "Models up to 2.5 charge grounding once a call, however many queries it made.",
        "`search`; too low if Google charges each query",
        GENERATES,
    ),
    "A-NO-FREE-ALLOWANCE": Assumption(
        "all",
        "Free tiers and free searches, which Google grants a billing account, are not deducted.",
        "every rate; too high by what Google gives the billing account",
    ),
    "A-GENAI-PRICES": Assumption(
        "genai-prices",
        "The book lacks this model: the rates are genai-prices', the tiers A-TIERS-ARE-MULTIPLES; text-to-speech "
        "output is audio.",
        "every rate of calls whose `price_source` is genai-prices",
    ),
    "A-PRICED-AS-WHO-ANSWERED": Assumption(
        "all",
        "A call costs what the model costs that the response names (modelVersion), not the one asked for.",
        "`priced_as`, and with it every rate",
    ),
    "A-LAST-USAGE-COUNTS": Assumption(
        "all",
        "Usage in a stream is a running total: the last one counts, and none is added up.",
        "every quantity of a stream; far too low if each event counted only its own tokens",
        (*STREAMS, openai_bodies.CHAT),
    ),
    "A-OUTPUT-IS-REST": Assumption(
        "all",
        "Output is the total less prompt and tool use, so that thoughts which a refusal repeats as candidates are"
        " charged once.",
        "`output_text`; too low by the thoughts if the total leaves them out",
        GENERATES,
    ),
    "A-BLOCKED-IS-BILLED": Assumption(
        "all",
        "What the usage of a blocked prompt or answer reports is charged, and images that it doesn't report aren't.",
        "calls whose `finish_reason` is none of STOP and MAX_TOKENS; too high if Google lets them off",
        ANSWERS,
    ),
    "A-GONE-IS-BILLED": Assumption(
        "all",
        "A call is charged in full though its client left or its answer broke off: Google finishes what it began.",
        "records with the outcome `client_gone` or `truncated`; too high if Google stops where the client does",
    ),
    "A-DRAFTS-BY-TOKENS": Assumption(
        "image",
        "Images among the thoughts are charged as far as the details count their tokens.",
        "`output_image` beyond the pictures received; too high if Google counts drafts and lets them off",
        GENERATES,
    ),
    "A-MAPS-BY-SOURCES": Assumption(
        "search",
        "The queries of an answer whose sources are all places are look-ups of places, at least one; where only some "
        "are, the queries are searches and one look-up is charged besides.",
        "`search` and `maps` of calls that asked for both",
        GENERATES,
    ),
    "A-SEARCHES-REPEAT": Assumption(
        "search",
        "Of the events of a stream, the one that lists the most searches counts: later ones repeat what earlier "
        "ones listed.",
        "`search` of streams; too low if each event lists only its own",
        STREAMS,
    ),
    "A-USAGE-IS-SENT": Assumption(
        "all",
        "Every 2xx of a metered operation says its usage.",
        "the record is marked `estimated`, and `usage_missing_total` counts it",
    ),
    "A-TIER-AS-SERVED": Assumption(
        "all",
        "The tier that served a call is `serviceTier` of its usage, else the header `x-gemini-service-tier`, else"
        " standard.",
        "`service_tier`, and with it every rate; too high if a flex call says nothing of it",
        ANSWERS,
    ),
    "A-ERRORS-ARE-FREE": Assumption(
        "all",
        "An answer of 400 or more costs nothing, whatever its number.",
        "records with the outcome `upstream_error` cost 0",
    ),
    "A-UNLABELLED-IS-TEXT": Assumption(
        "all",
        "Tokens that no entry of the details claims are text, those of a modality that isn't known here too.",
        "`input_text`, `cached_text` and `output_text`; too low if they were media",
    ),
    "A-LABELS-AT-MOST-ALL": Assumption(
        "all",
        "Details that claim more tokens than were counted are served images first, then audio, video and "
        "documents, at most all that were counted.",
        "the modality of tokens, never their number",
    ),
    "A-TOTAL-IS-THE-SUM": Assumption(
        "all",
        "Where the total is missing it is the sum of what was counted; where it is less than prompt and tool use,"
        " there was no output.",
        "`output_text`; too low if there was output all the same",
    ),
    "A-CAP-BOUNDS-OUTPUT": Assumption(
        "generates",
        "maxOutputTokens bounds text, thinking and images together.",
        "estimates, and what is held for a call while it runs; never a cost by usage",
        ANSWERS,
    ),
    "A-COMPATIBLE-OUTPUT-IS-REST": Assumption(
        "generates",
        "In the compatibility layer output is the total less the prompt, so that thoughts which show only there are "
        "charged, and never less than the completion; reasoning tokens are part of it.",
        "`output_text` of `openai.chat.completions`; too high if the total counts something that is free",
        (openai_bodies.CHAT,),
    ),
    "A-COMPATIBLE-INPUT-IS-TEXT": Assumption(
        "all",
        "In the compatibility layer prompt tokens are text, unless the usage says that they are audio.",
        "`input_text` and `cached_text` of operations of the layer; too low if pictures or sound have a dearer rate",
        (openai_bodies.CHAT, openai_bodies.EMBEDDINGS),
    ),
    "A-COMPATIBLE-PICTURE-IS-1K": Assumption(
        "image",
        "A picture of the compatibility layer costs what one of 1K costs; its prompt, and pictures that failed, cost "
        "nothing.",
        "`output_image` of `openai.images.generations`; too low by the prompt, by thinking, and if pictures are larger",
        (openai_bodies.PICTURES,),
    ),
    "E-TEXT": Assumption(
        "all",
        "Estimates: 1 token for 4 bytes of text in the request.",
        "records marked `estimated`, and what is held for a call while it runs",
    ),
    "E-PICTURE": Assumption(
        "all",
        "Estimates: a picture sent in is the model's figure, else 258 tokens.",
        "records marked `estimated`, and what is held for a call while it runs",
    ),
    "E-AUDIO": Assumption(
        "all",
        "Estimates: inline audio is 1 token for 500 bytes.",
        "records marked `estimated`, and what is held for a call while it runs",
    ),
    "E-VIDEO": Assumption(
        "all",
        "Estimates: inline video is 1 token for 833 bytes.",
        "records marked `estimated`, and what is held for a call while it runs",
    ),
    "E-DOCUMENT": Assumption(
        "all",
        "Estimates: inline documents are 1 token for 194 bytes.",
        "records marked `estimated`, and what is held for a call while it runs",
    ),
    "E-IMAGE": Assumption(
        "image",
        "Estimates: an image of the size asked for, for each candidate.",
        "records marked `estimated`, and what is held for a call while it runs",
        GENERATES,
    ),
    "E-IMAGE-REST": Assumption(
        "image",
        "Estimates: 400 tokens of text and thinking come with the images.",
        "records marked `estimated`, and what is held for a call while it runs",
        GENERATES,
    ),
    "E-PICTURES-SEEN": Assumption(
        "image",
        "Estimates: each image that came is charged, if the usage that would have counted it did not come.",
        "`output_image` of records marked `estimated`",
        GENERATES,
    ),
    "E-TEXT-OUTPUT": Assumption(
        "text",
        "Estimates: an answer has 1024 tokens for each candidate, or maxOutputTokens if that is less.",
        "records marked `estimated`, and what is held for a call while it runs",
        ANSWERS,
    ),
    "W-TEXT": Assumption(
        "all",
        "Holds: a byte of text is a token at most.",
        "what a budget holds for a call while it runs; never a cost",
    ),
    "W-PICTURE": Assumption(
        "all",
        "Holds: a picture sent in weighs 2240 tokens at most, the highest resolution that can be asked for.",
        "what a budget holds for a call while it runs; never a cost",
    ),
    "W-CONTEXT": Assumption(
        "all",
        "Holds: audio, video, documents, files, caches and what tools bring in count as the model's whole context.",
        "what a budget holds for a call while it runs; never a cost",
    ),
    "W-OUTPUT": Assumption(
        "all",
        "Holds: an answer is of the dearest kind of output, and as long as the model's limit or maxOutputTokens.",
        "what a budget holds for a call while it runs; never a cost",
    ),
    "W-TIER": Assumption(
        "all",
        "Holds: who asks for a service tier gets the dearest, who asks for none none that is dearer than standard.",
        "what a budget holds for a call while it runs; never a cost",
    ),
    "W-MODEL": Assumption(
        "all",
        "Holds: whichever model answers isn't dearer than the one asked for.",
        "what a budget holds for a call while it runs; never a cost",
    ),
}
