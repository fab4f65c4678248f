"""What answers tell of pictures, and of what requests were reckoned to weigh."""

from __future__ import annotations

import pytest

from proxy.cli.doctor.assumptions import on_pictures
from tests.cli.doctor.assumptions.contrary import Json, answered, drawn, labels, usage


def picture(image: int, rest: int = 100, pictures: int = 1, **others: int) -> Json:
    return drawn(usage(10, image + rest, 50, candidatesTokensDetails=labels(IMAGE=image, **others)), pictures)


@pytest.mark.parametrize(
    ("document", "held"),
    [
        (picture(400), "held"),
        (picture(400, TEXT=60), "held"),
        (picture(400, AUDIO=60), "failed"),
        (drawn(usage(10, 500)), "unknown"),
    ],
)
def test_what_is_no_image_is_to_bear_no_label_but_text(document: Json, held: str) -> None:
    assert on_pictures.image_rest_is_text(answered(image=document))[0] == held


def test_beyond_the_labels_is_what_is_charged_as_text() -> None:
    found = on_pictures.image_rest_is_text(answered(image=picture(400, TEXT=60)))
    assert found[1] == "image: 90 tokens beyond the labels {'IMAGE': 400, 'TEXT': 60}"


@pytest.mark.parametrize(
    ("document", "held"),
    [(picture(400), "held"), (picture(800, pictures=2), "held"), (picture(800), "failed"), (drawn(usage()), "unknown")],
)
def test_pictures_are_to_be_the_tokens_that_the_table_has_for_their_size(document: Json, held: str) -> None:
    assert on_pictures.no_details_is_image(answered(image=document))[0] == held


def test_ratio_and_size_are_tried_by_a_call_each() -> None:
    answers = answered(image=picture(9), image_wide=picture(400), image_2k=picture(1680))
    assert on_pictures.no_details_is_image(answers)[0] == "failed"
    assert on_pictures.sizes_for_all_ratios(answers) == ("held", "image-wide: 1 picture of 512 was 400 tokens")
    assert on_pictures.sizes_from_prices(answers) == ("held", "image-2k: 1 picture of 2K was 1680 tokens")
    without = answered(image=picture(400))
    assert on_pictures.sizes_for_all_ratios(without)[0] == on_pictures.sizes_from_prices(without)[0] == "unknown"


@pytest.mark.parametrize(
    ("tokens", "held"), [(258, "held"), (129, "held"), (516, "held"), (128, "failed"), (0, "unknown")]
)
def test_an_estimate_may_miss_by_half_or_by_as_much_again(tokens: int, held: str) -> None:
    counted = {"totalTokens": tokens, "promptTokensDetails": labels(IMAGE=tokens)}
    assert on_pictures.estimate_of_picture(answered(count_picture=counted))[0] == held


def test_a_picture_sent_to_an_image_model_is_held_against_the_books_figure() -> None:
    counted = {"totalTokens": 1120, "promptTokensDetails": labels(IMAGE=1120)}
    found = on_pictures.picture_is_default(answered(count_picture_drawn_from=counted))
    assert found == (
        "held",
        "a picture of 1024 x 1024 is 1120 tokens to gemini-nano-banana-2.1; reckoned with are 1120",
    )


@pytest.mark.parametrize(("tokens", "held"), [(200, "held"), (500, "failed"), (0, "unknown")])
def test_text_is_held_against_four_bytes_a_token(tokens: int, held: str) -> None:
    counted = {"totalTokens": tokens, "promptTokensDetails": labels(TEXT=tokens)}
    assert on_pictures.estimate_of_text(answered(count_text=counted))[0] == held


def test_what_comes_beside_pictures_is_held_against_the_estimate_by_its_mean() -> None:
    answers = answered(image=picture(400, rest=50), image_wide=picture(400, rest=450))
    assert on_pictures.estimate_of_image_rest(answers)[1].startswith("beside the pictures came 100, 500 tokens")
    assert on_pictures.estimate_of_image_rest(answers)[0] == "held"
    assert on_pictures.estimate_of_image_rest(answered(image=picture(400, rest=5)))[0] == "failed"
