"""Pictures asked for in OpenAI's shape."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from PIL import Image

from proxy.cli.image import openai_shaped
from proxy.cli.options import CommandError


def test_what_is_not_asked_for_is_left_out_and_pictures_make_it_an_edit(tmp_path: Path) -> None:
    asked = openai_shaped.request_body("a lorry", "m", 1, None, None, [])
    assert (openai_shaped.path([]), asked) == ("/v1/images/generations", {"prompt": "a lorry", "model": "m", "n": 1})
    one = tmp_path / "one.png"
    Image.new("RGB", (8, 8)).save(one)
    edit = openai_shaped.request_body("a lorry", "m", 2, "2K", "16:9", [one])
    assert openai_shaped.path([one]) == "/v1/images/edits"
    assert (edit["n"], edit["size"], edit["aspect_ratio"]) == (2, "2K", "16:9")
    [named] = edit["images"]
    kind, _, content = named["image_url"].partition(",")
    assert (kind, base64.b64decode(content)) == ("data:image/png;base64", one.read_bytes())


def test_pictures_come_in_their_order_and_what_failed_is_told() -> None:
    answer = {
        "data": [{"b64_json": "YQ=="}, {"b64_json": "Yg=="}],
        "x_weighbridge": {"failed": [{"code": "moderation_blocked", "message": "The picture was refused."}]},
    }
    assert openai_shaped.pictures(answer) == [b"a", b"b"]
    assert openai_shaped.failures(answer) == ["moderation_blocked: The picture was refused."]
    assert openai_shaped.failures({"data": []}) == []


@pytest.mark.parametrize("data", [[], [{"url": "https://other/x.png"}], None])
def test_an_answer_without_a_picture_is_told(data: object) -> None:
    with pytest.raises(CommandError, match="the answer holds no picture"):
        openai_shaped.pictures({"data": data})
