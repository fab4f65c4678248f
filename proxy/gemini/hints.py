"""Hints: known mistakes, and of each the one sentence that says what to do; told in a header and in the record.

A hint is told on evidence alone: what calls for each stands in request_hints.py, error_hints.py and answer_hints.py.
docs/troubleshooting.md has a section for each, under its name, which quotes its sentence.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from proxy.errors import Hint
from proxy.gemini import image_models

HEADER: Final = b"x-weighbridge-hint"
LONGEST: Final = 300
"""Bytes of a sentence, which is ASCII. Nothing of what a caller sent is in it."""

SENTENCES: Final[dict[str, str]] = {
    # what the request line shows
    "version-twice": (
        "The API version stands twice in the path. That is understood, and the last one counts; Google's SDKs add it "
        "to the base URL by themselves."
    ),
    "vertex-path": (
        "If the code does not ask for Vertex AI, its environment does: unset GOOGLE_GENAI_USE_VERTEXAI and "
        "GOOGLE_GENAI_USE_ENTERPRISE, and call models/MODEL:generateContent."
    ),
    "shell-variable": (
        "A shell variable was not filled in, as happens inside single quotes: put the URL in double quotes, and "
        "see that the variable is set."
    ),
    "imagen": "Imagen was shut down on {date}: draw with models/{successor}:generateContent, which takes another body.",
    "send-inline": (
        "Put files into the request itself, as inlineData with mimeType and base64 data: this server keeps none."
    ),
    # what the credential shows
    "no-key": "No key came: send one of this server's (it begins with wb_) in the header x-goog-api-key.",
    "empty-key": "The key came empty: the variable that should hold it is not set where the request is made.",
    "two-keys": (
        "One of the two is a key of Google's, as SDKs take it from GOOGLE_API_KEY or GEMINI_API_KEY: unset that, and "
        "send this server's alone."
    ),
    "placeholder-key": (
        "A placeholder came in place of the key: put in a key of this server, which begins with wb_; in a shell, "
        "use double quotes."
    ),
    "googles-key": (
        "A key of Google's came, and this server takes keys of its own, which begin with wb_: ask whoever runs it "
        "for one."
    ),
    "broken-key": (
        "The key begins as one of this server's, but is cut off or mistyped (its checksum is wrong): copy all "
        "{length} characters of it again."
    ),
    "ended-key": (
        "The key is whole, but not in force here: it has expired, was revoked, or is another server's. "
        "`weighbridge key list` tells its operator."
    ),
    "operators-key": "Your key is fine, the operator's is not: `weighbridge doctor` says what the upstream says of it.",
    # what the body shows
    "no-image-modality": (
        'responseModalities lacks IMAGE, so no picture will come: send ["TEXT", "IMAGE"] or ["IMAGE"].'
    ),
    "no-sizes": "{model} takes no imageSize, only aspectRatio: leave imageSize out, or ask for {successor}.",
    "size-in-capitals": "imageSize is written with a capital K: 1K, 2K or 4K.",
    "size-not-offered": "{model} takes these as imageSize: {sizes}.",
    "ratio-not-offered": "{model} takes these as aspectRatio: {ratios}.",
    "one-candidate": "Image models take no candidateCount above 1: send the request once for each picture.",
    # what an error of Google's shows
    "model-retired": "{model} was shut down on {date}: ask for {successor}.",
    "model-access": (
        "{model} is a current id, so it is the operator's Google project that lacks it: what works in AI Studio "
        "may have another project, key or billing tier."
    ),
    "model-unknown": (
        "Google has no such model, or not for this method; a stale example may name it. GET /v1beta/models lists "
        "what this server can reach."
    ),
    "compatibility-images": (
        "Google's compatibility layer does not draw with this model: send the same job to /v1/images/generations, "
        "or natively to models/MODEL:generateContent."
    ),
    "native-fields": (
        "Native fields are refused on the compatibility layer: send the whole request in the native shape, to "
        "/v1beta/models/MODEL:generateContent."
    ),
    "openai-fields": (
        "These are fields of OpenAI's API: send the request to /v1/images/generations for pictures, or to "
        "/v1beta/openai/chat/completions."
    ),
    "misplaced-field": "{field} is known, but not there: it belongs in {place}.",
    "ratio-refused": "Every image model takes these as aspectRatio: {ratios}.",
    "no-tools": "Image models take neither functionDeclarations nor JSON mode: leave out tools and responseMimeType.",
    "location": (
        "It is where this server stands that Google does not serve, not where you are: its operator must send "
        "from a supported country."
    ),
    "no-free-tier": (
        "Google has no free tier where this server stands: its operator must link billing to the upstream's project."
    ),
    "no-access": (
        "Google refuses this to the operator's project, which counts here instead of yours: what works in AI "
        "Studio may have another project, key or billing tier."
    ),
    "quota-minute": (
        "Google's limit per minute for this model is used up by all who share the operator's project: come back {wait}."
    ),
    "quota-day": (
        "Google's limit per day for this model is used up by all who share the operator's project: it is reset at "
        "midnight Pacific time. Other models have limits of their own."
    ),
    "quota-free-tier": (
        "The operator's Google project is on the free tier, whose limits are low: linking billing to it raises them."
    ),
    "quota-free-pictures": (
        "Google draws no pictures on the free tier: the operator must link billing to the upstream's project."
    ),
    "quota-spend": (
        "Google's limit on what the operator's account may spend in ten minutes is reached by all who share it: "
        "wait some minutes, and ask for less at once."
    ),
    "quota-prepaid": (
        "The operator's credit at Google is used up, or the month's cap is reached: trying again does not help, "
        "paying does."
    ),
    "quota-untold": (
        "Google does not say which of its limits is used up; they are per project, and shared by all of this "
        "server: come back after half a minute, and then less often."
    ),
    "overloaded": (
        "Google has no room for this model now; this call is not on the bill. Try again after a growing pause, or "
        "ask for another model."
    ),
    "google-failed": "Google failed; this call is not on the bill. Try again after a pause.",
    "deadline": "Google ran out of time; this call is not on the bill. Try again.",
    "deadline-picture": (
        "Google ran out of time; this call is not on the bill. Ask for 1K in place of a larger picture, or send "
        "smaller pictures."
    ),
    # what only an answer shows
    "prompt-blocked": (
        "The prompt was blocked ({reason}) before anything was made, and its input is billed: word it "
        "differently, or send other pictures."
    ),
    "picture-withheld": (
        "No picture came because Google withheld it ({reason}); what the usage shows is billed all the same: word "
        "the prompt differently."
    ),
    "answer-withheld": (
        "Google withheld the answer, or the rest of it ({reason}); what the usage shows is billed all the same: "
        "word the prompt differently."
    ),
    "nothing-drawn": "The model drew nothing ({reason}): describe in the prompt the picture that is to be drawn.",
    "text-only": "Only text came of a model that draws: say in the prompt that a picture is wanted.",
    "cap-before-picture": "maxOutputTokens was used up before the picture was: raise it, or leave it out.",
    "cap-in-thinking": (
        "Thinking used up maxOutputTokens before the answer began: raise it, or have less thinking done "
        "(thinkingConfig)."
    ),
    "malformed-call": (
        "The model wrote a function call that its declarations do not allow: try again, or make them simpler."
    ),
    "continuation": (
        "The answer goes on in another call, which an SDK makes by itself, and which bills the input again."
    ),
    "smaller-picture": (
        "A picture of {asked} was asked for, and by its tokens one of 1K came: whoever serves the model fell back."
    ),
    "several-pictures": (
        "{pictures} pictures came of one request, and the usage counts them all: where one is enough, ask in the "
        "prompt for exactly one."
    ),
    "other-model": "{version} answered in place of the model that was asked for, and is what is billed.",
    "no-usage": "The answer bore no usage, so it is billed by estimate: the upstream should send usageMetadata.",
    # what the OpenAI-shaped front tells
    "successor-drew": "{model} was shut down on {date}: {successor} was asked in its place.",
    "some-failed": "{came} of {asked} pictures came, the others are not: ask again for the rest.",
    "ratio-nearest": "{wish} is no aspect ratio of this model's: {ratio}, the nearest, was asked for.",
    "size-nearest": "This model makes no picture of {wish}: {size} was asked for.",
    "parameters-unknown": "These parameters are not known here, and did nothing: {names}.",
    "no-transparency": "No Gemini model makes a transparent background: a plain white one was asked for instead.",
}
"""The one source: name → sentence. What stands in braces comes from our own tables, or is a number or a plain word."""


def hint(name: str, **values: object) -> Hint:
    """The hint of that name, its sentence filled in. KeyError for a name, or a value, that isn't there."""
    return Hint(name, SENTENCES[name].format(**values))


def of_retired(model: str, name: str = "model-retired") -> Hint | None:
    """What to ask for in place of a model that was shut down, by its id without "models/"; None of any other.

    `name`: "successor-drew" where the successor was asked in its place, "imagen" on Imagen's own method.
    """
    gone = image_models.retired(model)
    if gone is None:
        return None
    shown = "Imagen 4" if model.startswith("imagen-") else model
    return hint(name, model=shown, date=gone.on.isoformat(), successor=gone.successor)


def of_partial(came: int, asked: int) -> Hint | None:
    """What to say where fewer pictures came than were asked for; None where all or none did."""
    return hint("some-failed", came=came, asked=asked) if 0 < came < asked else None


def together(several: Iterable[Hint | None]) -> Hint | None:
    """One of several: under the first one's name, and saying all of them as far as there is room. None of none."""
    told = [one for one in several if one is not None]
    if not told:
        return None
    sentence = told[0].sentence
    for other in told[1:]:
        if len(sentence) + len(other.sentence) < LONGEST:
            sentence += f" {other.sentence}"
    return Hint(told[0].name, sentence)


def field(told: Hint) -> tuple[bytes, bytes]:
    """The header that tells it."""
    return HEADER, told.sentence.encode("ascii")
