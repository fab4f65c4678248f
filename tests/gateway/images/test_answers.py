"""What is answered: bodies whose pictures are not copied, events in order, and the failure that helps most."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.errors import CallerErred, ProxyRefused, RateLimited, Reason, Refusal, Sent, UpstreamFailed
from proxy.gateway.images import answers
from proxy.gateway.images.answers import Failed, Picture
from proxy.gateway.images.requests import ImageRequest

REQUEST = ImageRequest("a lorry")
TOKENS = {"input_text": 3, "output_image": 1120}
FIRST = Picture("image/png", memoryview(rb'"A\/+="'), "A red\nlorry.", TOKENS, (1024, 768))
SECOND = Picture("image/jpeg", b'"B"', "", TOKENS, None)
USAGE = {
    "input_tokens": 3,
    "input_tokens_details": {"text_tokens": 3, "image_tokens": 0},
    "output_tokens": 1120,
    "output_tokens_details": {"text_tokens": 0, "image_tokens": 1120},
    "total_tokens": 1123,
}


def body(*pictures: Picture, size: str | None = None, failures: tuple[Failed, ...] = ()) -> Any:
    return json.loads(b"".join(answers.as_json(1_700_000_000, size, pictures, failures)))


def test_a_picture_is_answered_in_openais_shape() -> None:
    assert body(FIRST) == {
        "created": 1_700_000_000,
        "data": [{"b64_json": "A/+=", "revised_prompt": "A red\nlorry."}],
        "background": "opaque",
        "quality": "medium",
        "output_format": "png",
        "size": "1024x768",
        "usage": USAGE,
    }


def test_several_are_answered_together_with_what_they_took_and_what_failed() -> None:
    failed = Failed(400, {"message": "Refused."})
    told = body(SECOND, FIRST, SECOND, failures=(failed, failed))
    assert [one["b64_json"] for one in told["data"]] == ["B", "A/+=", "B"]
    assert [one.get("revised_prompt") for one in told["data"]] == [None, "A red\nlorry.", None]
    assert told["usage"]["total_tokens"] == 3 * 1123
    assert told["x_weighbridge"] == {"failed": [{"message": "Refused."}] * 2}
    assert told["output_format"] == "jpeg"
    assert "size" not in told, "it can't be told from the picture's first bytes"


@pytest.mark.parametrize(
    ("size", "quality"), [(None, "medium"), ("1K", "medium"), ("512", "low"), ("2K", "high"), ("4K", "high")]
)
def test_the_quality_told_is_that_of_the_size_that_went_up(size: str | None, quality: str) -> None:
    assert body(FIRST, size=size)["quality"] == quality


def test_a_format_that_openai_has_no_name_for_is_not_told() -> None:
    assert "output_format" not in body(FIRST._replace(media_type="image/gif"))


def test_the_base64_is_the_very_object_that_came() -> None:
    pieces = answers.as_json(1, None, [FIRST, SECOND], [])
    assert [piece for piece in pieces if piece is FIRST.base64 or piece is SECOND.base64] == [b'"A\\/+="', b'"B"']
    assert any(piece is FIRST.base64 for piece in answers.events(1, REQUEST, None, FIRST, edits=False))


def events(picture: Picture, partial_images: int, *, edits: bool = False) -> list[tuple[str, Any]]:
    request = REQUEST._replace(stream=True, partial_images=partial_images)
    found = []
    for event in b"".join(answers.events(7, request, None, picture, edits=edits)).split(b"\n\n")[:-1]:
        name, data = event.split(b"\n")
        found.append((name.removeprefix(b"event: ").decode(), json.loads(data.removeprefix(b"data: "))))
    return found


@pytest.mark.parametrize("edits", [True, False])
@pytest.mark.parametrize(("asked", "come"), [(0, []), (1, ["D1"]), (2, ["D1", "D2"]), (3, ["D1", "D2"])])
def test_events_are_the_drafts_that_were_asked_for_in_order_and_the_picture_last(
    edits: bool, asked: int, come: list[str]
) -> None:
    told = events(FIRST._replace(drafts=[b'"D1"', b'"D2"']), asked, edits=edits)
    kind = "image_edit" if edits else "image_generation"
    assert [name for name, _ in told] == [f"{kind}.partial_image"] * len(come) + [f"{kind}.completed"]
    assert [data["type"] for _, data in told] == [name for name, _ in told]
    assert [data["b64_json"] for _, data in told] == [*come, "A/+="]
    assert [data.get("partial_image_index") for _, data in told] == [*range(len(come)), None]
    assert [data.get("usage") for _, data in told] == [None] * len(come) + [USAGE]


def test_an_event_has_all_that_openais_types_demand() -> None:
    ((_, told),) = events(SECOND, 3)
    assert told == {
        "type": "image_generation.completed",
        "b64_json": "B",
        "created_at": 7,
        "size": "auto",
        "background": "opaque",
        "quality": "medium",
        "output_format": "jpeg",
        "usage": USAGE,
    }


@pytest.mark.parametrize(
    "why", ["SAFETY", "IMAGE_SAFETY", "PROHIBITED_CONTENT", "IMAGE_PROHIBITED_CONTENT", "IMAGE_OTHER"]
)
def test_a_picture_that_was_refused_is_the_prompts_fault_in_openais_word(why: str) -> None:
    failed = answers.without_picture(why, "I can't draw that. " + "x" * 999)
    assert (failed.http, failed.error["code"], failed.error["param"]) == (400, "moderation_blocked", "prompt")
    assert failed.paid
    assert why in failed.error["message"]
    assert "I can't draw that." in failed.error["message"]
    assert len(failed.error["message"]) < 700


@pytest.mark.parametrize("why", ["", "STOP", "NO_IMAGE", "MAX_TOKENS"])
def test_a_picture_that_was_not_drawn_is_told_from_one_that_was_refused(why: str) -> None:
    failed = answers.without_picture(why, "")
    assert (failed.http, failed.error["code"], failed.paid) == (400, "no_image_generated", True)
    assert why in failed.error["message"]
    assert "()" not in failed.error["message"]
    assert "said" not in failed.error["message"]


WRONG = CallerErred(Reason.BAD_REQUEST, "Wrong.")
WRONG.param = "size"
LIMITED = RateLimited("Full.", (), 1000)
DOWN = ProxyRefused(Reason.DRAINING, "Draining.")


@pytest.mark.parametrize(
    ("refusal", "http", "paid"),
    [
        (WRONG, 400, False),
        (LIMITED, 429, False),
        (UpstreamFailed(Reason.UPSTREAM_UNREACHABLE, "Broke off.", Sent.NOTHING), 502, False),
        (UpstreamFailed(Reason.UPSTREAM_TIMEOUT, "Too slow.", Sent.PART), 504, True),
        (UpstreamFailed(Reason.UPSTREAM_TIMEOUT, "Too slow.", Sent.WHOLE), 504, True),
    ],
)
def test_a_refusal_of_ours_says_what_may_have_cost_money(refusal: Refusal, http: int, paid: bool) -> None:
    failed = Failed.of(refusal)
    assert (failed.http, failed.paid, failed.refusal) == (http, paid, refusal)
    assert failed.error["message"] == refusal.message
    assert failed.error["param"] == (refusal.param or None)
    assert json.loads(answers.error_body(failed)) == {"error": failed.error}


def test_what_the_caller_can_mend_comes_first_then_what_passes_then_the_rest() -> None:
    googles, ours, later, down = Failed(400, {"code": "g"}), Failed.of(WRONG), Failed.of(LIMITED), Failed.of(DOWN)
    ranked = [googles, ours, later, down]
    for number, best in enumerate(ranked):
        assert answers.most_useful(reversed(ranked[number:])) is best
    assert answers.most_useful([down, Failed(500, {})]) is down, "of equals the first"


def test_a_failure_in_a_stream_is_an_event_of_its_own() -> None:
    event = answers.error_event(Failed(400, {"message": "No\nlorry."}))
    assert event.startswith(b"event: error\ndata: ")
    assert event.endswith(b"\n\n")
    assert event.count(b"\n") == 3
    assert json.loads(event.split(b"data: ")[1]) == {"type": "error", "error": {"message": "No\nlorry."}}
