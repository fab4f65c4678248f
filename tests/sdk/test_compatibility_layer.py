"""OpenAI's SDK for Python on Google's compatibility layer, unchanged but for base URL and key: what it returns through
Weighbridge is what it returns from the upstream itself, and the ledger is the emulator's account."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import openai
import pytest

from tests.sdk.conftest import Way
from tests.stand import Weighbridge

TEXT, EMBEDDING, DRAWS = "gemini-3.8-flash", "gemini-embedding-001", "gemini-2.5-flash-image"
DATA_URL = "data:image/png;base64," + "iVBORw0KGgo" + "A" * 4093


def client(way: Way) -> openai.OpenAI:
    return openai.OpenAI(api_key=way.key, base_url=f"{way.base_url}/v1beta/openai/", max_retries=0)


@pytest.fixture(scope="module")
def clients(direct: Way, through: Way) -> Iterator[tuple[openai.OpenAI, openai.OpenAI]]:
    with client(direct) as straight, client(through) as weighed:
        yield straight, weighed


def chat(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": TEXT, "messages": [{"role": "user", "content": text}], **fields}


def complete(sdk: openai.OpenAI) -> Any:
    made = sdk.chat.completions.create(**chat("How heavy? [[thoughts=70]] [[cached=30]]"))
    return [made.choices[0].message.content, made.choices[0].finish_reason, made.usage, made.model]


def sees(sdk: openai.OpenAI) -> Any:
    parts = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": DATA_URL}}]
    made = sdk.chat.completions.create(model=f"models/{TEXT}", messages=[{"role": "user", "content": parts}])  # type: ignore[misc, list-item]
    return [made.choices[0].message.content, made.usage]


def stream(sdk: openai.OpenAI) -> Any:
    chunks = list(sdk.chat.completions.create(**chat("A long story [[thoughts=9]]", stream=True)))
    assert all(chunk.choices for chunk in chunks)
    return [[chunk.choices, chunk.usage] for chunk in chunks]


def stream_with_usage(sdk: openai.OpenAI) -> Any:
    asked = {"include_usage": True}
    chunks = list(sdk.chat.completions.create(**chat("A long story", stream=True, stream_options=asked)))
    assert chunks[-1].choices == []
    return [[chunk.choices, chunk.usage] for chunk in chunks]


def embed(sdk: openai.OpenAI) -> Any:
    made = sdk.embeddings.create(model=EMBEDDING, input=["one", "two"])
    return [[one.embedding for one in made.data], made.usage]


def draw(sdk: openai.OpenAI) -> Any:
    made = sdk.images.generate(model=DRAWS, prompt="A red bicycle", n=2, response_format="b64_json")
    return [one.b64_json for one in made.data or []]


def draw_large(sdk: openai.OpenAI) -> Any:
    """A response of more than 4 MB."""
    made = sdk.images.generate(model=DRAWS, prompt="A red bicycle [[image-bytes=2200000]]", n=2)
    return [len(one.b64_json or "") for one in made.data or []]


CALLS = [complete, sees, stream, stream_with_usage, embed, draw, draw_large]


def accounted(direct: Way) -> list[dict[str, Any]]:
    return httpx2.get(f"{direct.base_url}/emulator/account").json()["entries"]  # type: ignore[no-any-return]


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
def test_what_it_returns_is_the_same_and_the_ledger_is_the_emulators_account(
    call: Callable[[openai.OpenAI], Any],
    clients: tuple[openai.OpenAI, openai.OpenAI],
    direct: Way,
    stand: Weighbridge,
) -> None:
    straight, weighed = [call(sdk) for sdk in clients]
    assert weighed == straight
    entry, record = accounted(direct)[-1], stand.records()[-1]
    true = entry["usage"]
    assert (record.operation, record.model) == (entry["operation"], entry["model"])
    assert record.outcome == "ok"
    assert not record.estimated
    quantities = {name: quantity for name, (quantity, _) in (record.rates or {}).items()}
    if record.operation == "openai.images.generations":
        assert (record.images, quantities) == (2, {"output_image": 2 * 1290})
        assert record.cost_usd == 2 * 1290 * 30_000
        return
    assert sum(quantities.values()) == record.total_token_count == true["total_token_count"]
    assert quantities.get("cached_text", 0) == (true.get("cached_content_token_count") or 0)
    assert quantities.get("output_text", 0) == true["total_token_count"] - true["prompt_token_count"]
    if record.operation != "openai.embeddings":
        assert record.response_id == entry["id"]


def test_models_are_listed_and_got_by_the_ids_in_the_list(clients: tuple[openai.OpenAI, openai.OpenAI]) -> None:
    straight, weighed = [list(sdk.models.list()) for sdk in clients]
    assert weighed == straight
    assert {model.id.removeprefix("models/") for model in weighed} >= {TEXT, DRAWS}
    for name in (TEXT, f"models/{TEXT}"):
        assert clients[1].models.retrieve(name) == clients[0].models.retrieve(TEXT)


def test_errors_are_the_sdks_own_ours_and_googles(
    clients: tuple[openai.OpenAI, openai.OpenAI], through: Way, stand: Weighbridge
) -> None:
    weighed = clients[1]
    with pytest.raises(openai.RateLimitError) as slow:
        weighed.chat.completions.create(**chat("[[status=429]]"))
    assert "x-weighbridge-refused" not in slow.value.response.headers
    with pytest.raises(openai.NotFoundError) as unknown:
        weighed.images.edit(model=DRAWS, image=b"x", prompt="x")
    assert "POST /v1/images/edits" in unknown.value.message
    with pytest.raises(openai.BadRequestError) as pictures:
        weighed.chat.completions.create(**chat("A red bicycle", model=DRAWS))
    assert (pictures.value.param, pictures.value.code) == ("model", "bad_request")
    with pytest.raises(openai.BadRequestError, match="placeholder"):
        weighed.chat.completions.create(**chat("Hi", model="<model>"))
    with (
        client(Way(through.base_url, "wb_" + "0" * 38)) as stranger,
        pytest.raises(openai.BadRequestError) as refused,
    ):
        stranger.models.list()
    assert refused.value.code == "invalid_api_key"
    last = stand.records()[-1]
    assert (last.outcome, last.http_status, last.cost_usd) == ("upstream_error", 429, 0), "the others went nowhere"
