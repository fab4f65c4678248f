"""Media in OpenAI's shape, counted in what is left of a body once its base64 is taken out."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.errors import CallerErred, Reason
from proxy.gemini import openai_media
from proxy.gemini.openai_media import Media

HOSTS = frozenset({"upstream.example"})


def media(content: Any, left_out: int = 0, **rest: Any) -> Media:
    return openai_media.read({"messages": [{"content": content}], **rest}, HOSTS, left_out)


@pytest.mark.parametrize(
    ("content", "counted"),
    [
        ("data:image/png;base64,", (0, 0, 0, 0)),
        ([{"image_url": {"url": "data:image/png;base64,QQ=="}}], (1, 0, 0, 0)),
        ([{"image_url": "data:image/png;base64,QQ=="}], (1, 0, 0, 0)),
        ([{"image_url": ["data:image/png;base64,QQ=="] * 2}], (2, 0, 0, 0)),
        ([{"video_url": {"url": "data:video/mp4;base64,"}}, {"input_audio": {"data": ""}}], (0, 1, 1, 0)),
        ([{"url": "data:audio/wav;base64,"}, {"file": {"file_data": "data:application/pdf;base64,"}}], (0, 1, 0, 1)),
    ],
)
def test_each_kind_is_counted_where_the_api_has_it(content: Any, counted: tuple[int, ...]) -> None:
    seen = media(content)
    assert (seen.pictures, seen.audio, seen.videos, seen.documents) == counted
    assert seen.unbounded == any(counted[1:])
    assert not seen.texts


@pytest.mark.parametrize(
    ("content", "left_out", "texts"),
    [
        ([{"image_url": {"url": "data:image/png;base64,"}}], 1, False),
        ([{"image_url": {"url": "data:image/png;base64,"}}, {"text": "data:image/png;base64,"}], 1, True),
        ([{"input_audio": {"data": ""}}, {"data": ""}], 1, True),
        ([{"file": {"file_data": "QUJD"}}], 0, True),
        ([{"image_url": {"url": "data:font/woff;base64,"}}], 1, True),
    ],
)
def test_what_is_taken_out_elsewhere_may_be_text(content: Any, left_out: int, texts: bool) -> None:
    assert media(content, left_out).texts == texts


def test_a_url_on_another_host_is_a_link_and_one_of_ours_is_refused() -> None:
    assert media([{"image_url": {"url": "https://cdn.example/a"}}]).linked
    for url in ("https://upstream.example/a", "files/a", "DATA:image/png;base64,", "http://x@generativelanguage.g/"):
        with pytest.raises(CallerErred) as caught:
            media([{"image_url": {"url": url}}])
        assert caught.value.reason is Reason.RESOURCE_NOT_OWNED


def test_members_are_found_at_any_depth_under_folded_names() -> None:
    found = list(openai_media.members([{"A_b": [1, {"cD": None}]}, None, "x"]))
    assert sorted(name for name, _ in found) == ["ab", "ab", "cd"]
