"""Usage, parsed and made billable: Google's own samples, its traps, and what holds for any usage at all."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.schema import MAX_USD_PER_MILLION
from proxy.gemini.usage import details, parse, quantities, total_tokens


def weigh(
    usage: dict[str, Any], *, images: int = 0, image_model: bool = False, each: int | None = None
) -> dict[str, int]:
    parsed = parse(msgspec.json.encode(usage))
    assert not parsed.malformed
    return quantities(parsed, images_seen=images, image_model=image_model, image_tokens_each=each)


def listed(**tokens: int) -> list[dict[str, Any]]:
    return [{"modality": modality.upper(), "tokenCount": count} for modality, count in tokens.items()]


def test_what_the_details_of_an_image_leave_out_is_output_text() -> None:
    """As gemini-3.1-flash-image answered: candidates exceed the one IMAGE entry, thoughts come on top."""
    usage: dict[str, Any] = {
        "promptTokenCount": 2076,
        "candidatesTokenCount": 1332,
        "thoughtsTokenCount": 137,
        "totalTokenCount": 3545,
    }
    usage["candidatesTokensDetails"] = listed(image=1120)
    assert weigh(usage, images=1, image_model=True, each=1120) == {
        "input_text": 2076,
        "output_image": 1120,
        "output_text": 1332 - 1120 + 137,
    }


def test_a_refusal_that_mirrors_thoughts_into_candidates_is_billed_once() -> None:
    usage: dict[str, Any] = {
        "promptTokenCount": 100,
        "candidatesTokenCount": 200,
        "thoughtsTokenCount": 200,
        "totalTokenCount": 300,
    }
    assert weigh(usage, image_model=True, each=1120) == {"input_text": 100, "output_text": 200}


def test_a_blocked_prompt_has_no_output() -> None:
    assert weigh({"promptTokenCount": 638, "totalTokenCount": 638}) == {"input_text": 638}


@pytest.mark.parametrize(
    ("images", "each", "image", "text"),
    [(1, 1120, 1120, 280), (2, 1120, 1400, 0), (1, None, 1400, 0), (0, 1120, 0, 1400)],
    ids=["the table's", "no more than there was", "no table: all of it", "no image, no image tokens"],
)
def test_without_details_an_image_model_is_billed_by_its_table(
    images: int, each: int | None, image: int, text: int
) -> None:
    quantity = weigh({"promptTokenCount": 10, "totalTokenCount": 1410}, images=images, image_model=True, each=each)
    assert (quantity.get("output_image", 0), quantity.get("output_text", 0)) == (image, text)


def test_details_go_before_the_table_and_other_models_have_no_table() -> None:
    usage = {"totalTokenCount": 1400, "candidatesTokensDetails": listed(text=1400)}
    assert weigh(usage, images=1, image_model=True, each=1120) == {"output_text": 1400}
    usage["candidatesTokensDetails"] = listed(text=200, audio=100)
    assert weigh(usage, images=1, image_model=True, each=1120) == {
        "output_text": 200,
        "output_audio": 100,
        "output_image": 1100,
    }
    assert weigh({"totalTokenCount": 1400}, images=1, image_model=False, each=1120) == {"output_text": 1400}


def test_the_input_is_split_by_modality_and_its_unlabelled_rest_is_text() -> None:
    usage: dict[str, Any] = {"promptTokenCount": 100, "totalTokenCount": 100}
    usage["promptTokensDetails"] = listed(image=20, audio=10, video=5, document=3, text=50, hologram=7)
    expected = {"input_image": 20, "input_audio": 10, "input_video": 5, "input_document": 3, "input_text": 62}
    assert weigh(usage) == expected


def test_details_that_claim_too_much_are_clamped_image_first() -> None:
    usage = {
        "promptTokenCount": 100,
        "totalTokenCount": 100,
        "promptTokensDetails": listed(text=90, audio=30, image=80),
    }
    assert weigh(usage) == {"input_image": 80, "input_audio": 20}


def test_cached_tokens_come_out_of_the_input_of_their_modality() -> None:
    usage: dict[str, Any] = {
        "promptTokenCount": 100,
        "totalTokenCount": 100,
        "promptTokensDetails": listed(text=40, image=60),
    }
    usage |= {"cachedContentTokenCount": 50, "cacheTokensDetails": listed(text=10, image=40)}
    assert weigh(usage) == {"input_text": 30, "input_image": 20, "cached_text": 10, "cached_image": 40}


def test_cached_tokens_without_details_are_text_as_far_as_there_is_text() -> None:
    usage: dict[str, Any] = {
        "promptTokenCount": 100,
        "totalTokenCount": 100,
        "promptTokensDetails": listed(text=40, image=60),
    }
    usage["cachedContentTokenCount"] = 50
    assert weigh(usage) == {"input_image": 50, "cached_text": 40, "cached_image": 10}


def test_a_cached_modality_stands_even_where_the_prompt_bears_no_labels() -> None:
    usage: dict[str, Any] = {"promptTokenCount": 100, "totalTokenCount": 100, "cacheTokensDetails": listed(audio=30)}
    assert weigh(usage) == {"input_text": 70, "cached_audio": 30}


def test_tool_use_is_input_and_no_output() -> None:
    usage: dict[str, Any] = {
        "promptTokenCount": 10,
        "toolUsePromptTokenCount": 30,
        "candidatesTokenCount": 5,
        "totalTokenCount": 45,
    }
    usage["toolUsePromptTokensDetails"] = listed(image=12)
    assert weigh(usage) == {"input_text": 28, "input_image": 12, "output_text": 5}


def test_a_missing_total_is_the_sum_of_its_terms() -> None:
    usage = {
        "promptTokenCount": 1,
        "candidatesTokenCount": 20,
        "thoughtsTokenCount": 300,
        "toolUsePromptTokenCount": 4000,
    }
    assert weigh(usage) == {"input_text": 4001, "output_text": 320}


def test_a_total_below_the_prompt_takes_nothing_from_it() -> None:
    assert weigh({"promptTokenCount": 10, "totalTokenCount": 3}) == {"input_text": 10}


counts = st.integers(0, 5000)
modalities = st.sampled_from(["TEXT", "IMAGE", "AUDIO", "VIDEO", "DOCUMENT", "MODALITY_UNSPECIFIED", "HOLOGRAM", ""])
lists = st.lists(st.fixed_dictionaries({}, optional={"modality": modalities, "tokenCount": counts}), max_size=6)
COUNTS = ["prompt", "cachedContent", "candidates", "thoughts", "toolUsePrompt", "total"]
LISTS = ["prompt", "cache", "candidates", "toolUsePrompt"]
any_usage = st.fixed_dictionaries(
    {},
    optional={f"{name}TokenCount": counts for name in COUNTS} | {f"{name}TokensDetails": lists for name in LISTS},
)


@given(any_usage, st.integers(0, 10), st.booleans(), st.none() | st.integers(0, 2000))
def test_quantities_are_positive_and_add_up_to_the_total(
    usage: dict[str, Any], images: int, image_model: bool, each: int | None
) -> None:
    parsed = parse(msgspec.json.encode(usage))
    quantity = quantities(parsed, images_seen=images, image_model=image_model, image_tokens_each=each)
    assert all(tokens > 0 for tokens in quantity.values())
    assert sum(quantity.values()) == total_tokens(parsed)
    prompt = sum(tokens for name, tokens in quantity.items() if not name.startswith("output_"))
    assert prompt == usage.get("promptTokenCount", 0) + usage.get("toolUsePromptTokenCount", 0)
    cached = sum(tokens for name, tokens in quantity.items() if name.startswith("cached_"))
    assert cached == min(
        usage.get("cachedContentTokenCount", sum(e.get("tokenCount", 0) for e in usage.get("cacheTokensDetails", []))),
        usage.get("promptTokenCount", 0),
    )


def test_counts_may_be_strings_and_unknown_fields_are_passed_over() -> None:
    raw = b'{"promptTokenCount":"12","new":[{}],"promptTokensDetails":[{"modality":"IMAGE","tokenCount":"7","x":1}]}'
    usage = parse(raw)
    assert (usage.prompt_token_count, details(usage.prompt_tokens_details), usage.malformed) == (
        12,
        {"IMAGE": 7},
        False,
    )


@pytest.mark.parametrize(
    "wrong", ["-1", "1.5", '"many"', "[]", "{}", "true", "1e30", '"99999999999999999999"', "1000000000001"]
)
def test_a_field_of_a_wrong_type_is_missing_and_the_others_stand(wrong: str) -> None:
    usage = parse(f'{{"promptTokenCount":{wrong},"totalTokenCount":3,"serviceTier":"flex"}}'.encode())
    assert (usage.prompt_token_count, usage.total_token_count, usage.service_tier) == (None, 3, "flex")
    assert usage.malformed


def test_null_is_missing_and_no_fault() -> None:
    usage = parse(b'{"promptTokenCount":null,"promptTokensDetails":null,"serviceTier":null}')
    assert usage == parse(b"{}")
    assert not usage.malformed


@given(st.binary(max_size=60) | st.sampled_from([b"", b"[]", b"null", b'{"malformed":true', b"[" * 5000]))
def test_no_bytes_at_all_make_parsing_raise(raw: bytes) -> None:
    assert parse(raw).malformed or msgspec.json.decode(raw) is not None


def test_the_flag_is_not_on_the_wire() -> None:
    assert not parse(b'{"malformed":true}').malformed
    assert not parse(b'{"malformed":true,"promptTokenCount":1}').malformed


def test_details_are_a_map_by_modality_or_nothing() -> None:
    usage = parse(b'{"promptTokensDetails":[{"modality":"TEXT"},{"modality":"IMAGE","tokenCount":2},{"tokenCount":3}]}')
    assert details(usage.prompt_tokens_details) == {"TEXT": 0, "IMAGE": 2, "MODALITY_UNSPECIFIED": 3}
    assert details(usage.candidates_tokens_details) is None


def test_the_largest_usage_that_is_believed_fits_the_ledger_at_the_dearest_rate() -> None:
    """The ledger's integers have 64 bits, and its money is nano-dollars."""
    most = 10**12
    counts = ("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "toolUsePromptTokenCount")
    usage = parse(msgspec.json.encode(dict.fromkeys(counts, most)))
    tokens = sum(quantities(usage, images_seen=0, image_model=False, image_tokens_each=None).values())
    assert tokens == 4 * most
    nano_dollars_per_token = MAX_USD_PER_MILLION * 1_000
    assert tokens * nano_dollars_per_token < 2**63
