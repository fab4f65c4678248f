"""Google's OpenAI compatibility layer, through OpenAI's SDK and by raw requests."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import pytest
from openai.types.chat import ChatCompletionMessageFunctionToolCall
from PIL import Image

from proxy.emulator.app import DEFAULT_KEY
from tests.emulator.conftest import IMAGE, TEXT, Client

EMBEDDING = "gemini-embedding-001"
DRAWS = "gemini-2.5-flash-image"
TOOL: Any = {
    "type": "function",
    "function": {"name": "weigh", "parameters": {"type": "object", "properties": {"axles": {"type": "integer"}}}},
}


@pytest.fixture(scope="module")
def sdk(base_url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key=DEFAULT_KEY, base_url=f"{base_url}/v1beta/openai/", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def bearer(base_url: str) -> Iterator[httpx2.Client]:
    """A raw client with OpenAI's credential and no other."""
    headers = {"authorization": f"Bearer {DEFAULT_KEY}", "accept-encoding": "identity"}
    with httpx2.Client(base_url=f"{base_url}/v1beta/openai", headers=headers, timeout=30) as client:
        yield client


def _chat(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": TEXT, "messages": [{"role": "user", "content": text}]} | fields


def test_the_sdk_gets_a_completion_and_thoughts_are_in_the_total_alone(sdk: openai.OpenAI, client: Client) -> None:
    made = sdk.chat.completions.create(**_chat("How heavy? [[thoughts=70]] [[cached=30]]"))
    assert "How heavy?" in (made.choices[0].message.content or "")
    assert made.choices[0].finish_reason == "stop"
    entry = client.last_billed()
    assert (entry["operation"], entry["model"], entry["id"]) == ("openai.chat.completions", TEXT, made.id)
    usage, true = made.usage, entry["usage"]
    assert usage is not None
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens == true["cached_content_token_count"] == 30
    assert usage.completion_tokens == true["candidates_token_count"]
    assert usage.total_tokens - usage.prompt_tokens - usage.completion_tokens == true["thoughts_token_count"] == 70
    assert entry["reported"]["total_tokens"] == usage.total_tokens


def test_the_sdk_streams_the_same_text_and_gets_usage_only_if_it_asks(sdk: openai.OpenAI, client: Client) -> None:
    whole = sdk.chat.completions.create(**_chat("A long story"))
    plain = list(sdk.chat.completions.create(**_chat("A long story"), stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in plain) == whole.choices[0].message.content
    assert plain[-1].choices[0].finish_reason == "stop"
    assert not any(chunk.usage for chunk in plain)
    assert client.last_billed()["reported"] is None
    asked = list(
        sdk.chat.completions.create(**_chat("A long story"), stream=True, stream_options={"include_usage": True})
    )
    assert len(asked) == len(plain) + 1
    assert asked[-1].choices == []
    assert asked[-1].usage == whole.usage
    assert client.last_billed()["reported"]["total_tokens"] == client.last_billed()["usage"]["total_token_count"]


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}], ids=repr)
def test_a_stream_that_was_not_asked_for_usage_has_none(bearer: httpx2.Client, options: Any) -> None:
    answer = bearer.post("/chat/completions", json=_chat("A", stream=True, stream_options=options))
    assert '"object":"chat.completion.chunk"' in answer.text
    assert "usage" not in answer.text


def test_a_stream_is_events_that_end_in_done(bearer: httpx2.Client) -> None:
    answer = bearer.post("/chat/completions", json=_chat("A [[chunks=3]]", stream=True))
    assert answer.headers["content-type"] == "text/event-stream"
    events = answer.text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    assert [json.loads(event.removeprefix("data: "))["object"] for event in events[:-2]] == [
        "chat.completion.chunk"
    ] * 3


def test_the_sdk_calls_a_tool_and_tells_what_it_returned(sdk: openai.OpenAI) -> None:
    asked: list[Any] = [{"role": "user", "content": "call weigh"}]
    message = sdk.chat.completions.create(model=TEXT, messages=asked, tools=[TOOL]).choices[0].message
    call = (message.tool_calls or [])[0]
    assert isinstance(call, ChatCompletionMessageFunctionToolCall)
    assert json.loads(call.function.arguments) == {"axles": 1}
    returned: Any = {"role": "tool", "tool_call_id": call.id, "content": "12 t"}
    messages = [*asked, message.model_dump(exclude_none=True), returned]
    answer = sdk.chat.completions.create(model=TEXT, messages=messages, tools=[TOOL])
    assert "weigh returned" in (answer.choices[0].message.content or "")


def test_a_streams_tool_call_comes_whole_without_index_and_ends_in_stop(bearer: httpx2.Client) -> None:
    answer = bearer.post("/chat/completions", json=_chat("call weigh", tools=[TOOL], stream=True))
    chunks = [json.loads(event.removeprefix("data: ")) for event in answer.text.split("\n\n")[:-2]]
    (call,) = chunks[0]["choices"][0]["delta"]["tool_calls"]
    assert call.keys() == {"function", "id", "type"}
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


def test_the_sdk_gets_n_choices_within_its_cap(sdk: openai.OpenAI) -> None:
    made = sdk.chat.completions.create(**_chat("A lorry of some length"), n=2, max_tokens=3, reasoning_effort="none")
    assert [choice.index for choice in made.choices] == [0, 1]
    assert {choice.finish_reason for choice in made.choices} == {"length"}
    assert made.usage is not None
    assert made.usage.completion_tokens <= 6


def test_the_sdk_gets_json_that_fits_its_schema(sdk: openai.OpenAI) -> None:
    schema = {"type": "object", "properties": {"plate": {"type": "string"}}}
    wanted: Any = {"type": "json_schema", "json_schema": {"name": "lorry", "schema": schema}}
    made = sdk.chat.completions.create(**_chat("A lorry"), response_format=wanted)
    assert json.loads(made.choices[0].message.content or "") == {"plate": "plate"}


def test_a_reference_in_a_message_is_a_picture_in_the_prompts_tokens(sdk: openai.OpenAI, client: Client) -> None:
    url = {"url": "data:image/png;base64,aGk="}
    content: Any = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": url}]
    sdk.chat.completions.create(model=TEXT, messages=[{"role": "user", "content": content}])
    assert client.last_billed()["usage"]["prompt_tokens_details"]["IMAGE"] == 258


def test_a_picture_by_chat_has_googles_settings_and_its_usage_does_not_tell_it_from_text(
    bearer: httpx2.Client, client: Client
) -> None:
    google = {"image_config": {"aspect_ratio": "16:9", "image_size": "512"}}
    chat = _chat("A lorry", model=f"models/{IMAGE}", extra_body={"google": google})
    made = bearer.post("/chat/completions", json=chat).json()
    content = made["choices"][0]["message"]["content"]
    data = content[content.index("base64,") + 7 :].removesuffix(")")
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (688, 384)
    entry = client.last_billed()
    assert (entry["model"], entry["images"]) == (IMAGE, 1)
    assert made["usage"].keys() == {"completion_tokens", "prompt_tokens", "total_tokens"}


@pytest.mark.parametrize("directive", ["refuse", "block"])
def test_a_refusal_is_a_choice_without_a_message_and_bills_what_it_cost(
    bearer: httpx2.Client, client: Client, directive: str
) -> None:
    made = bearer.post("/chat/completions", json=_chat(f"A [[{directive}=SAFETY]] [[thoughts=70]]")).json()
    assert made["choices"] == [{"finish_reason": "content_filter: SAFETY", "index": 0}]
    assert made["usage"]["total_tokens"] == client.last_billed()["usage"]["total_token_count"]


@pytest.mark.parametrize("encoding", ["float", openai.omit], ids=["float", "the SDK's own"])
def test_the_sdk_gets_the_native_embeddings(sdk: openai.OpenAI, client: Client, encoding: Any) -> None:
    """Of itself the SDK asks for base64, and unpacks it."""
    made = sdk.embeddings.create(model=EMBEDDING, input=["A lorry", "B"], dimensions=8, encoding_format=encoding)
    entry = client.last_billed()
    assert (entry["operation"], entry["usage"]["total_token_count"]) == ("openai.embeddings", made.usage.total_tokens)
    content = {"content": {"parts": [{"text": "A lorry"}]}, "outputDimensionality": 8}
    native = client.post(f"/v1beta/models/{EMBEDDING}:embedContent", json=content).json()["embedding"]["values"]
    assert [one.index for one in made.data] == [0, 1]
    assert made.data[0].embedding == pytest.approx(native, rel=1e-6)


def test_an_embedding_comes_packed_only_where_that_was_asked_for(bearer: httpx2.Client) -> None:
    for encoding, kind in (("base64", str), ("float", list), (None, list)):
        asked = {"model": EMBEDDING, "input": "A", "dimensions": 2, "encoding_format": encoding}
        assert isinstance(bearer.post("/embeddings", json=asked).json()["data"][0]["embedding"], kind)


def test_the_sdk_gets_pictures_whose_size_it_cannot_choose(sdk: openai.OpenAI, client: Client) -> None:
    made = sdk.images.generate(model=DRAWS, prompt="A lorry", n=2, size="1792x1024", quality="hd", style="vivid")
    assert made.usage is None
    files = [base64.b64decode(picture.b64_json or "") for picture in made.data or ()]
    assert [Image.open(io.BytesIO(file)).size for file in files] == [(1024, 1024)] * 2
    entry = client.last_billed()
    assert (entry["operation"], entry["images"], entry["reported"]) == ("openai.images.generations", 2, None)
    assert entry["usage"]["candidates_tokens_details"] == {"IMAGE": 2580}


@pytest.mark.parametrize(
    ("directives", "shown", "billed"),
    [
        ("[[images=0]]", [], 0),
        ("[[images=3]] [[drafts=1]] [[lead-text=on]]", ["b64_json"] * 3, 3),
        ("[[url]]", ["url"], 1),
        ("[[refuse=IMAGE_SAFETY]]", [], 0),
        ("[[block=OTHER]]", [], 0),
    ],
)
def test_directives_steer_the_pictures(
    bearer: httpx2.Client, client: Client, directives: str, shown: list[str], billed: int
) -> None:
    made = bearer.post("/images/generations", json={"model": DRAWS, "prompt": f"A lorry {directives}"}).json()
    assert [next(iter(picture)) for picture in made["data"]] == shown
    assert client.last_billed()["images"] == billed


@pytest.mark.parametrize("model", [IMAGE, "gemini-3.1-flash-image", TEXT, "imagen-4.0-generate-001"])
def test_most_models_draw_nothing_there_and_the_404_comes_without_an_array(sdk: openai.OpenAI, model: str) -> None:
    with pytest.raises(openai.NotFoundError, match=f"models/{model} is not found for API version v1main") as refused:
        sdk.images.generate(model=model, prompt="A lorry")
    assert isinstance(refused.value.body, dict)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"generationConfig": {}}, 'Unknown name "generationConfig": Cannot find field.'),
        ({"generation_config": {}}, 'Unknown name "generation_config": Cannot find field.'),
        ({"n": 0}, "'n'"),
        ({"n": 11}, "'n'"),
        ({"n": "many"}, "'n'"),
        ({"prompt": ""}, "'prompt'"),
        ({"model": ""}, "model is not specified"),
    ],
    ids=repr,
)
def test_a_bad_request_for_pictures_is_a_400_and_costs_nothing(
    bearer: httpx2.Client, client: Client, fields: dict[str, Any], says: str
) -> None:
    answer = bearer.post("/images/generations", json={"model": DRAWS, "prompt": "A lorry"} | fields)
    assert answer.status_code == 400
    assert says in answer.json()["error"]["message"]
    assert client.last_billed()["usage"] is None


def test_the_sdk_finds_the_catalogue(sdk: openai.OpenAI) -> None:
    ids = [model.id for model in sdk.models.list()]
    assert f"models/{TEXT}" in ids
    assert sdk.models.retrieve(TEXT).id == sdk.models.retrieve(f"models/{TEXT}").id == f"models/{TEXT}"
    with pytest.raises(openai.NotFoundError):
        sdk.models.retrieve("gemini-none")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/images/edits"),
        ("POST", "/images/variations"),
        ("POST", "/responses"),
        ("POST", "/v1/chat/completions"),
        ("GET", "/chat/completions"),
        ("POST", "/models"),
    ],
)
def test_what_the_layer_has_no_route_for_is_the_html_404(bearer: httpx2.Client, method: str, path: str) -> None:
    answer = bearer.request(method, path)
    assert answer.status_code == 404
    assert "That's all we know" in answer.text


@pytest.mark.parametrize("path", ["/v1/openai/models", "/v1beta/openai//models", "/v1alpha/openai/models/"])
def test_any_version_and_a_slash_too_many_are_the_same_route(bearer: httpx2.Client, base_url: str, path: str) -> None:
    assert bearer.get(f"{base_url}{path}").json()["object"] == "list"


_KEY = {"x-goog-api-key": DEFAULT_KEY}
_BEARER = {"authorization": f"Bearer {DEFAULT_KEY}"}


@pytest.mark.parametrize(
    ("headers", "query", "says"),
    [
        ({}, "", "Missing or invalid Authorization header."),
        (_KEY, "", "Missing or invalid Authorization header."),
        ({}, f"?key={DEFAULT_KEY}", "Missing or invalid Authorization header."),
        ({"authorization": "Bearer"}, "", "Missing or invalid Authorization header."),
        ({"authorization": f"Basic {DEFAULT_KEY}"}, "", "Missing or invalid Authorization header."),
        (_BEARER | _KEY, "", "Multiple authentication credentials received. Please pass only one."),
        (_BEARER, f"?key={DEFAULT_KEY}", "Multiple authentication credentials received. Please pass only one."),
        (_BEARER | {"openai-project": "p"}, "", "Multiple authentication credentials received. Please pass only one."),
        ({"authorization": "Bearer other"}, "", "API key not valid. Please pass a valid API key."),
    ],
    ids=repr,
)
def test_the_key_comes_as_bearer_and_alone(base_url: str, headers: dict[str, str], query: str, says: str) -> None:
    answer = httpx2.post(f"{base_url}/v1beta/openai/chat/completions{query}", headers=headers, json=_chat("A"))
    assert answer.status_code == 400
    (wrapped,) = answer.json()
    assert wrapped["error"]["message"] == says
    assert wrapped["error"]["status"] == "INVALID_ARGUMENT"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("400", openai.BadRequestError),
        ("403", openai.PermissionDeniedError),
        ("404", openai.NotFoundError),
        ("429", openai.RateLimitError),
        ("503", openai.InternalServerError),
    ],
)
def test_an_error_is_googles_own_in_an_array_and_the_sdks_typed_exception(
    sdk: openai.OpenAI, client: Client, status: str, kind: type[openai.APIStatusError]
) -> None:
    with pytest.raises(kind) as raised:
        sdk.chat.completions.create(**_chat(f"A [[status={status}]]"))
    body: Any = raised.value.response.json()
    assert isinstance(body, list)
    assert body[0]["error"]["code"] == int(status)
    entry = client.last_billed()
    assert (entry["http_status"], entry["usage"]) == (int(status), None)


def test_an_error_amid_a_stream_ends_it_and_what_came_is_billed(sdk: openai.OpenAI, client: Client) -> None:
    came = 0
    with pytest.raises(openai.APIError, match="overloaded"):  # noqa: PT012  it is within the iteration that it comes
        for _ in sdk.chat.completions.create(
            **_chat("A [[error-mid-stream=503]]"), stream=True, stream_options={"include_usage": True}
        ):
            came += 1
    assert came == 2
    entry = client.last_billed()
    assert entry["usage"]["candidates_token_count"] > 0
    assert entry["reported"] is None


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b"{}", b'{"model":3}', b'{"messages":3}', b'{"model":"gemini-2.5-flash-image"}'],
    ids=repr,
)
@pytest.mark.parametrize("path", ["/chat/completions", "/embeddings", "/images/generations"])
def test_a_body_that_makes_no_sense_is_a_400(bearer: httpx2.Client, path: str, body: bytes) -> None:
    assert bearer.post(path, content=body).status_code == 400


def test_directives_of_transport_hold_there_too(bearer: httpx2.Client, client: Client) -> None:
    packed = bearer.post("/chat/completions", json=_chat("A [[gzip]]"))
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.json()["object"] == "chat.completion"
    with pytest.raises(httpx2.RemoteProtocolError):
        bearer.post("/chat/completions", json=_chat("A [[break-after=10]]"))
    assert client.last_ended()["sent_whole"] is False
