"""openai for Python and JavaScript, unchanged but for base URL and key: they list the models, and get one."""

from __future__ import annotations

import json

import openai
import pytest

from tests.sdk.conftest import Way
from tests.sdk.node import run
from tests.stand import Weighbridge

MODEL = "gemini-nano-banana-2.1"


def test_python_lists_and_gets_what_an_operator_sees(stand: Weighbridge, through: Way) -> None:
    """The catalogue of a key that may use everything is `prices list --models`; nothing of it leaves a record."""
    expected = json.loads(stand.run("prices", "list", "--models", "--json"))["data"]
    before = len(stand.records())
    with openai.OpenAI(base_url=f"{through.base_url}/openai/v1", api_key=through.key) as client:
        assert [model.model_dump() for model in client.models.list()] == expected
        assert client.models.retrieve(MODEL).model_dump() == expected[0]
        assert expected[0]["x_weighbridge"]["images"]["sizes"]["1K"] == {"tokens": 1120, "usd": "0.0336"}
        with pytest.raises(openai.NotFoundError) as missing:
            client.models.retrieve("gpt-image-2")
        assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    assert len(stand.records()) == before


def test_javascript_lists_and_gets(through: Way) -> None:
    given = {"options": {"baseURL": f"{through.base_url}/openai/v1", "apiKey": through.key}, "model": MODEL}
    came = run("models.mjs", given, {})
    assert came["got"] == came["listed"][0]
    assert (came["got"]["id"], came["got"]["x_weighbridge"]["rates"]["output_image"]) == (MODEL, "30")
    assert came["raised"] == {"name": "NotFoundError", "status": 404, "code": "model_not_found"}
