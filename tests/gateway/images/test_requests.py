"""Parameters read: what is taken, and that each one that is wrong is refused by its name, with what helps."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import CallerErred, Reason
from proxy.gateway.images import requests, sizes
from proxy.gateway.images.requests import ImageRequest, Named
from proxy.gemini.image_models import ImageModel


def read(given: dict[str, Any], *, edits: bool = False, form: bool = False) -> ImageRequest:
    return requests.read({"prompt": "a lorry", **given}, edits=edits, form=form)


def test_what_is_not_asked_for_is_as_openai_has_it() -> None:
    assert read({}) == ImageRequest("a lorry", size="1024x1024")
    assert read({}, edits=True) == ImageRequest("a lorry", size="auto")


@pytest.mark.parametrize("form", [True, False])
def test_all_that_is_asked_for_is_read(form: bool) -> None:
    given: dict[str, Any] = {"n": 10, "output_compression": 0, "partial_images": 3, "stream": True}
    if form:
        given = {name: str(value).lower() for name, value in given.items()}
    words = {
        "model": "models/gemini-3-pro-image",
        "size": "2K",
        "aspect_ratio": "7:4",
        "quality": "hd",
        "style": "vivid",
        "background": "transparent",
        "input_fidelity": "high",
        "output_format": "webp",
        "response_format": "b64_json",
    }
    assert read(given | words, form=form) == ImageRequest(
        *("a lorry", "gemini-3-pro-image", 10, "2K", "7:4", "hd", "vivid", "transparent", "high", "webp"),
        output_compression=0,
        stream=True,
        partial_images=3,
    )


WRONG: list[tuple[str, list[Any]]] = [
    ("prompt", ["", "  \n", None, 7, ["a"], "a" * 32_001, "a" * 100_000]),
    ("n", [0, 11, -1, "3", "three", 1.0, 1.5, True, [], {}, 10**9]),
    ("size", ["1x1", "1025x1024", "1024", 1024, "huge", [], {}, True]),
    ("aspect_ratio", ["1", "0:1", 1.5, "wide", [], {}]),
    ("quality", ["best", 1, [], {}, True]),
    ("style", ["gothic", 1, {}]),
    ("background", ["green", False, []]),
    ("input_fidelity", ["medium", 1, {}]),
    ("output_format", ["gif", "PNG", "image/png", 1, {}]),
    ("output_compression", [50, 0]),  # without a format that has it
    ("response_format", ["url", "b64", 1, {}]),
    ("stream", ["true", 1, 0, [], "yes"]),
    ("partial_images", [4, -1, "1", True]),
    ("model", ["a b", "models/", "../x", "x" * 101, 1, {}, "tunedModels/x"]),
]


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG for value in values])
def test_a_wrong_parameter_is_refused_by_its_name(name: str, value: object) -> None:
    with pytest.raises(CallerErred) as refused:
        read({name: value})
    assert (refused.value.reason, refused.value.param) == (Reason.BAD_REQUEST, name)
    assert name in refused.value.message
    assert len(refused.value.message) < 500


@pytest.mark.parametrize(
    ("name", "value"),
    [("n", "0"), ("n", "11"), ("n", "3.0"), ("n", "٣"), ("n", "9" * 5000), ("stream", "maybe"), ("size", "1x1")],
)
def test_a_wrong_value_of_a_form_is_refused_by_its_name(name: str, value: str) -> None:
    with pytest.raises(CallerErred) as refused:
        read({name: value}, form=True)
    assert refused.value.param == name


@pytest.mark.parametrize(("value", "read_as"), [("true", True), ("True", True), ("1", True), ("false", False)])
def test_a_form_says_true_and_false_in_text(value: str, read_as: bool) -> None:
    assert read({"stream": value}, form=True).stream is read_as


def test_a_number_in_quotes_is_told_what_is_wrong_with_it() -> None:
    with pytest.raises(CallerErred, match="without quotes"):
        read({"n": "3"})


def test_a_prompt_may_be_as_long_as_openai_has_it() -> None:
    assert len(read({"prompt": "ü" * 32_000}).prompt) == 32_000


@pytest.mark.parametrize(
    "given",
    [
        {"background": "transparent", "output_format": "jpeg"},
        {"output_compression": 5, "output_format": "png"},
        {"output_compression": 101, "output_format": "webp"},
    ],
)
def test_what_does_not_go_together_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(CallerErred) as refused:
        read(given)
    assert refused.value.param == next(iter(given))


@pytest.mark.parametrize("form", [True, False])
def test_null_and_empty_are_as_if_left_out(form: bool) -> None:
    names = [*requests._KNOWN - {"prompt"}, "contents", "wholly_new"]
    assert read(dict.fromkeys(names), form=form) == read(dict.fromkeys(names, ""), form=form) == read({})


SNAKE = {
    "contents": "contents",
    "generationConfig": "generation_config",
    "imageConfig": "image_config",
    "responseModalities": "response_modalities",
    "safetySettings": "safety_settings",
    "systemInstruction": "system_instruction",
    "tools": "tools",
}


@pytest.mark.parametrize("native", requests.NATIVE)
def test_a_native_field_is_refused_in_both_spellings_with_what_stands_for_it(native: str) -> None:
    for name in (native, SNAKE[native]):
        with pytest.raises(CallerErred, match=":generateContent") as refused:
            requests.read({name: {}}, edits=False, form=False)
        assert refused.value.param == name
        assert native in refused.value.message
        assert requests.NATIVE[native] in refused.value.message


def test_parameters_that_nothing_knows_are_taken_and_named_as_far_as_they_are_names() -> None:
    odd = {"a\r\nb": 1, "x" * 41: 1, "ü": 1, "": 1, "a b": 1}
    assert read({**odd, "new_one": {"a": 1}, "user": "u", "moderation": "low"}).unknown == ("new_one",)
    assert len(read({f"new{number}": 1 for number in range(10_000)}).unknown) == 5


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([*requests._KNOWN, *requests.NATIVE, "new"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
            max_leaves=5,
        ),
    ),
    st.booleans(),
)
def test_whatever_comes_is_read_or_refused_by_a_name(given: dict[str, Any], edits: bool) -> None:
    refused: CallerErred | None = None
    try:
        request = requests.read(given, edits=edits, form=False)
    except CallerErred as error:
        refused = error
    else:
        sizes.shape(request.size, request.aspect_ratio, request.quality, ImageModel(()))
    assert refused is None or refused.param in {*given, "prompt"}


DATA = "data:image/png;base64,"


def pictures(given: dict[str, Any]) -> tuple[list[Named], Named | None]:
    return requests.read_json(json.dumps({"prompt": "a", **given}).encode())[1:]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, []),
        ({"images": None, "image": None}, []),
        ({"images": []}, []),
        ({"image": f"{DATA}AAAA"}, [Named("image", b"AAAA")]),
        ({"image": "DATA:image/PNG;BASE64,AAAA".replace("BASE64", "Base64")}, [Named("image", b"AAAA")]),
        ({"image": "https://a.example/b"}, [Named("image", url="https://a.example/b")]),
        ({"image": ["data:;base64,A", "x"]}, [Named("image", b"A"), Named("image", url="x")]),
        ({"images": [{"image_url": f"{DATA}A"}]}, [Named("images", b"A")]),
        ({"images": [{"image_url": {"url": f"{DATA}A"}}]}, [Named("images", b"A")]),
        ({"images": [{"url": "b"}, "c"]}, [Named("images", url="b"), Named("images", url="c")]),
        (
            {"image[]": [f"{DATA}3"], "image": f"{DATA}2", "images": [f"{DATA}1"]},
            [Named("images", b"1"), Named("image", b"2"), Named("image[]", b"3")],
        ),
    ],
)
def test_pictures_in_json_are_found_in_order(given: dict[str, Any], found: list[Named]) -> None:
    assert pictures(given) == (found, None)


def test_a_mask_is_one() -> None:
    for value in (f"{DATA}A", {"image_url": f"{DATA}A"}, [f"{DATA}A"]):
        assert pictures({"mask": value}) == ([], Named("mask", b"A"))
    assert pictures({"mask": None}) == ([], None)
    with pytest.raises(CallerErred) as refused:
        pictures({"mask": [f"{DATA}A"] * 2})
    assert refused.value.param == "mask"


def test_base64_is_passed_by_as_it_stands_and_escaped_slashes_are_slashes() -> None:
    for text, stands in ((b"a+b/c=", b"a+b/c="), (rb"a+b\/c=", b"a+b/c="), (rb"\u0041\/\/", b"A//"), (b"~", b"~")):
        _, found, _ = requests.read_json(b'{"image":"data:image/png;base64,' + text + b'"}')
        assert found == [Named("image", stands)]


@pytest.mark.parametrize("name", ["image", "images", "image[]", "mask"])
@pytest.mark.parametrize(
    "value",
    [
        *(1, True, {}, [[]], [1], {"image_url": 1}, {"image_url": None}, {"image_url": {"url": {"url": "x"}}}),
        *({"file_id": "file-1"}, "data:image/png,AAAA", "data:", f"data:{'x' * 200};base64,AAAA", [f"{DATA}A"] * 17),
    ],
)
def test_what_is_no_picture_is_refused_by_its_name(name: str, value: object) -> None:
    with pytest.raises(CallerErred) as refused:
        pictures({name: value})
    assert refused.value.param == name


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"[]", b"null", b"prompt=a", b'{"prompt":"a"', b'{"prompt":"\xff"}', b'{"\xff":1}', b'{"n":NaN}'),
        *(b'{"a":' * 100_000, b'{"image":' + b"[" * 100_000 + b"]" * 100_000 + b"}", b'{"prompt":"\\ud800"}'),
        *(b'{"image":"\xff"}', b'{"image":{"\xff":1}}', b'{"images":[{"url":"\xff"}]}', b'{"mask":"\\ud800"}'),
        *(rb'{"image":"data:image/png;base64,\ud800"}', rb'{"image":"data:image/png;base64,\u12"}', b'{"image":"\\q"}'),
        b'{"image":"data:image/png;base64,\xff\\/"}',
    ],
)
def test_a_body_that_is_no_json_object_in_utf8_is_refused_and_told_what_is_one(body: bytes) -> None:
    with pytest.raises(CallerErred, match="must be a JSON object, in UTF-8"):
        requests.read_json(body)


def test_an_edit_has_from_one_to_sixteen_pictures() -> None:
    requests.check_count([1])
    requests.check_count([1] * 16)
    for count, says in ((0, "needs a picture"), (17, "17 pictures are given; at most 16")):
        with pytest.raises(CallerErred, match=says) as refused:
            requests.check_count([1] * count, "images")
        assert refused.value.param == "images"
