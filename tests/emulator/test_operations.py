"""The operations, through the official SDK and by raw requests."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from google import genai
from google.genai import errors, types
from google.genai.client import AsyncClient
from PIL import Image
from pydantic import BaseModel

from proxy.emulator.app import DEFAULT_KEY
from tests.emulator.conftest import IMAGE, TEXT, Client

EMBEDDING = "gemini-embedding-2"


@pytest.fixture(scope="module")
def sdk(base_url: str) -> Iterator[genai.Client]:
    with genai.Client(api_key=DEFAULT_KEY, http_options=types.HttpOptions(base_url=base_url)) as client:
        yield client


@pytest.fixture
async def aio(base_url: str) -> AsyncIterator[AsyncClient]:
    """The SDK's asynchronous client, whose connections belong to the test's own loop."""
    async with genai.Client(api_key=DEFAULT_KEY, http_options=types.HttpOptions(base_url=base_url)).aio as client:
        yield client


class Lorry(BaseModel):
    """A schema for structured answers."""

    plate: str
    axles: int
    loads: list[float]


def _picture(response: types.GenerateContentResponse) -> Image.Image:
    blobs = [part.inline_data for part in response.parts or [] if part.inline_data]
    assert blobs[0].data is not None
    return Image.open(io.BytesIO(blobs[0].data))


def test_the_sdk_gets_a_text_and_the_same_text_again(sdk: genai.Client) -> None:
    first, second = (sdk.models.generate_content(model=TEXT, contents="How heavy?") for _ in range(2))
    assert "How heavy?" in (first.text or "")
    assert first.text == second.text
    assert first.response_id != second.response_id
    usage = first.usage_metadata
    assert usage is not None
    assert usage.total_token_count == sum(
        (usage.prompt_token_count or 0, usage.candidates_token_count or 0, usage.thoughts_token_count or 0)
    )


@pytest.mark.anyio
async def test_the_sdk_gets_a_text_asynchronously(aio: AsyncClient) -> None:
    answer = await aio.models.generate_content(model=TEXT, contents="How heavy?")
    assert "How heavy?" in (answer.text or "")


def test_the_sdk_streams_with_running_totals_and_gets_the_same_text(sdk: genai.Client) -> None:
    whole = sdk.models.generate_content(model=TEXT, contents="A long story about a lorry")
    chunks = list(sdk.models.generate_content_stream(model=TEXT, contents="A long story about a lorry"))
    assert len(chunks) > 2
    assert "".join(chunk.text or "" for chunk in chunks) == whole.text
    totals = [chunk.usage_metadata.total_token_count or 0 for chunk in chunks if chunk.usage_metadata]
    assert totals == sorted(totals)
    assert totals[0] < totals[-1]
    assert whole.usage_metadata is not None
    assert totals[-1] == whole.usage_metadata.total_token_count


@pytest.mark.anyio
async def test_the_sdk_streams_asynchronously(aio: AsyncClient) -> None:
    stream = await aio.models.generate_content_stream(model=TEXT, contents="Hello [[chunks=7]]")
    chunks = [chunk async for chunk in stream]
    assert len(chunks) == 7
    assert chunks[-1].candidates
    assert chunks[-1].candidates[0].finish_reason == types.FinishReason.STOP


def test_the_sdk_gets_a_picture_in_the_size_asked_for(sdk: genai.Client) -> None:
    config = types.GenerateContentConfig(
        response_modalities=["IMAGE"], image_config=types.ImageConfig(aspect_ratio="16:9", image_size="2K")
    )
    answer = sdk.models.generate_content(model=IMAGE, contents="A red lorry", config=config)
    assert _picture(answer).size == (2752, 1536)
    assert answer.usage_metadata is not None
    details = answer.usage_metadata.candidates_tokens_details or []
    assert [(one.modality, one.token_count) for one in details] == [(types.MediaModality.IMAGE, 1680)]
    assert (answer.usage_metadata.candidates_token_count or 0) > 1680


@pytest.mark.anyio
async def test_the_sdk_streams_a_picture(aio: AsyncClient) -> None:
    stream = await aio.models.generate_content_stream(model=IMAGE, contents="A red lorry [[lead-text=on]]")
    parts = [part async for chunk in stream for part in chunk.parts or []]
    assert parts[0].text
    assert any(part.inline_data for part in parts)


def test_references_are_counted_and_cost_the_models_own_figure(sdk: genai.Client) -> None:
    reference = types.Part.from_bytes(data=b"\xff\xfe\xfd picture", mime_type="image/png")
    contents: list[Any] = ["Mix them", reference, reference]
    answer = sdk.models.generate_content(model="gemini-3-pro-image", contents=contents)
    assert answer.usage_metadata is not None
    details = {one.modality: one.token_count for one in answer.usage_metadata.prompt_tokens_details or []}
    assert details == {types.MediaModality.TEXT: 2, types.MediaModality.IMAGE: 1120}


def test_the_sdk_parses_an_answer_that_fits_its_schema(sdk: genai.Client) -> None:
    config = types.GenerateContentConfig(response_mime_type="application/json", response_schema=Lorry)
    answer = sdk.models.generate_content(model=TEXT, contents="Describe a lorry", config=config)
    assert isinstance(answer.parsed, Lorry)
    config = types.GenerateContentConfig(
        response_mime_type="application/json", response_json_schema=Lorry.model_json_schema()
    )
    answer = sdk.models.generate_content(model=TEXT, contents="Describe a lorry", config=config)
    assert Lorry.model_validate_json(answer.text or "")


def test_the_sdk_calls_the_function_that_the_prompt_names(sdk: genai.Client) -> None:
    weighed: list[str] = []

    def weigh(plate: str) -> int:
        """Weighs a lorry."""
        weighed.append(plate)
        return 17

    config = types.GenerateContentConfig(tools=[weigh])
    answer = sdk.models.generate_content(model=TEXT, contents="Please weigh it", config=config)
    assert weighed == ["plate"]
    assert "weigh returned" in (answer.text or "")
    assert "17" in (answer.text or "")


def test_a_chat_counts_its_turns(sdk: genai.Client) -> None:
    chat = sdk.chats.create(model=TEXT)
    assert "turn 1" in (chat.send_message("One").text or "")
    assert "turn 2" in (chat.send_message("Two").text or "")


def test_tokens_are_counted_without_being_billed(sdk: genai.Client, client: Client) -> None:
    before = client.get("/emulator/account").json()["entries"]
    assert sdk.models.count_tokens(model=TEXT, contents="12345678").total_tokens == 2
    assert client.get("/emulator/account").json()["entries"] == before


def test_embeddings_have_the_length_asked_for_and_are_billed(sdk: genai.Client, client: Client) -> None:
    config = types.EmbedContentConfig(output_dimensionality=64)
    contents: list[Any] = ["one", "two", "one"]
    answer = sdk.models.embed_content(model="gemini-embedding-001", contents=contents, config=config)
    vectors = [one.values or [] for one in answer.embeddings or []]
    assert vectors[0] == vectors[2] != vectors[1]
    assert all(len(vector) == 64 for vector in vectors)
    assert sum(value * value for value in vectors[0]) == pytest.approx(1, abs=1e-5)
    assert client.last_billed()["operation"] == "batchEmbedContents"
    assert client.last_billed()["usage"]["prompt_token_count"] == 3


def test_a_single_embedding_is_the_batchs(client: Client) -> None:
    content = {"parts": [{"text": "one"}]}
    single = client.post(f"/v1/models/{EMBEDDING}:embedContent", json={"content": content}).json()
    request = {"model": f"models/{EMBEDDING}", "content": content}
    batch = client.post(f"/v1/models/{EMBEDDING}:batchEmbedContents", json={"requests": [request]}).json()
    assert single["embedding"] == batch["embeddings"][0]
    assert len(single["embedding"]["values"]) == 3072
    assert single["usageMetadata"]["promptTokenCount"] == 1


def test_a_batch_names_the_model_of_the_path(client: Client) -> None:
    request = {"model": "models/other", "content": {"parts": [{"text": "one"}]}}
    path = f"/v1/models/{EMBEDDING}:batchEmbedContents"
    assert client.post(path, json={"requests": [request]}).status_code == 400


def test_the_sdk_lists_all_models_page_by_page(sdk: genai.Client) -> None:
    found = [model.name for model in sdk.models.list(config=types.ListModelsConfig(page_size=4))]
    assert len(found) == len(set(found)) > 20
    assert f"models/{IMAGE}" in found
    assert sdk.models.get(model=IMAGE).name == f"models/{IMAGE}"


@pytest.mark.parametrize("query", ["?pageToken=%21%21", "?pageToken=eHg=", "?pageSize=many"])
def test_a_page_that_cannot_be_is_refused(client: Client, query: str) -> None:
    assert client.get(f"/v1/models{query}").status_code == 400


@pytest.mark.parametrize(
    ("name", "kind", "code", "status"),
    [
        ("400", errors.ClientError, 400, "INVALID_ARGUMENT"),
        ("401", errors.ClientError, 401, "UNAUTHENTICATED"),
        ("403", errors.ClientError, 403, "PERMISSION_DENIED"),
        ("404", errors.ClientError, 404, "NOT_FOUND"),
        ("429", errors.ClientError, 429, "RESOURCE_EXHAUSTED"),
        ("500", errors.ServerError, 500, "INTERNAL"),
        ("503", errors.ServerError, 503, "UNAVAILABLE"),
        ("504", errors.ServerError, 504, "DEADLINE_EXCEEDED"),
    ],
)
def test_the_sdk_raises_typed_errors(
    sdk: genai.Client, name: str, kind: type[errors.APIError], code: int, status: str
) -> None:
    with pytest.raises(kind) as raised:
        sdk.models.generate_content(model=TEXT, contents=f"[[status={name}]]")
    assert (raised.value.code, raised.value.status) == (code, status)
    with pytest.raises(kind):
        list(sdk.models.generate_content_stream(model=TEXT, contents=f"[[status={name}]]"))


def test_an_error_amid_a_stream_follows_chunks_and_bills_what_went_before(sdk: genai.Client, client: Client) -> None:
    stream = sdk.models.generate_content_stream(model=TEXT, contents="[[error-mid-stream=429]] [[chunks=6]]")
    got: list[types.GenerateContentResponse] = []
    with pytest.raises(errors.ClientError) as raised:
        got.extend(stream)
    assert (len(got), raised.value.code) == (3, 429)
    entry = client.last_billed()
    assert got[-1].usage_metadata is not None
    assert entry["usage"]["total_token_count"] == got[-1].usage_metadata.total_token_count
    assert (entry["http_status"], entry["sent_whole"]) == (200, True)


@pytest.mark.parametrize(("model", "verb"), [("gemini-x", "generateContent"), (EMBEDDING, "generateContent")])
def test_a_model_that_cannot_is_not_found_in_googles_words(client: Client, model: str, verb: str) -> None:
    answer = client.ask("hello", model, verb)
    assert answer.status_code == 404
    assert answer.json()["error"]["message"].startswith(
        f"models/{model} is not found for API version v1beta, or is not supported for {verb}."
    )


@pytest.mark.parametrize(
    ("asked", "answers"),
    [
        ("gemini-3.1-flash-image-preview", "gemini-3.1-flash-image"),
        ("gemini-3-pro-image-preview", "gemini-3-pro-image"),
        ("gemini-2.5-flash-image-preview", "gemini-2.5-flash-image"),
        ("gemini-3.7-flash", "gemini-3.8-flash"),
    ],
)
def test_a_retired_id_is_answered_by_its_successor(client: Client, asked: str, answers: str) -> None:
    value = client.ask("hello", asked).json()
    assert value["modelVersion"] == answers
    assert client.last_billed()["model_version"] == answers
    assert client.last_billed()["model"] == asked


def test_a_stream_without_sse_is_one_array_element_by_element(client: Client) -> None:
    answer = client.ask("hello [[chunks=3]]", verb="streamGenerateContent")
    assert answer.headers["content-type"] == "application/json; charset=UTF-8"
    assert answer.text.startswith("[{\n")
    assert answer.text.count("\n}\n,\n{\n") == 2
    assert answer.text.endswith("\n}\n]")
    assert len(json.loads(answer.content)) == 3


def test_an_error_before_a_stream_is_an_array_unless_sse_was_asked_for(client: Client) -> None:
    array = client.ask("[[status=503]]", verb="streamGenerateContent")
    plain = client.ask("[[status=503]]", verb="streamGenerateContent", query="?alt=sse")
    assert array.json() == [plain.json()]
    assert plain.headers["content-type"] == "application/json; charset=UTF-8"


def test_the_account_agrees_with_what_the_client_was_told(client: Client) -> None:
    value: dict[str, Any] = client.ask("A lorry [[images=2]]", IMAGE).json()
    entry = client.last_billed()
    usage = value["usageMetadata"]
    assert entry["id"] == value["responseId"]
    assert entry["reported"] == usage
    assert entry["images"] == 2
    assert entry["usage"]["candidates_token_count"] == usage["candidatesTokenCount"]
    assert entry["usage"]["candidates_tokens_details"] == {"IMAGE": 2240}
    assert entry["usage"]["total_token_count"] == usage["totalTokenCount"]
    assert entry["finish_reason"] == "STOP"
    assert entry["service_tier"] == "standard"


@pytest.mark.parametrize("how", ["none", "null", "zero", "no-details", "mirrored"])
def test_the_account_keeps_the_truth_where_the_reply_does_not(client: Client, how: str) -> None:
    client.ask(f"A lorry [[usage={how}]] [[thoughts=50]]", IMAGE)
    entry = client.last_billed()
    assert entry["usage"]["candidates_tokens_details"] == {"IMAGE": 1120}
    assert entry["usage"]["thoughts_token_count"] == 50
    assert entry["usage"]["total_token_count"] > 1170


def test_a_failed_request_is_in_the_account_at_no_cost(client: Client) -> None:
    client.ask("[[status=500]]")
    entry = client.last_billed()
    assert (entry["http_status"], entry["usage"], entry["sent_whole"]) == (500, None, True)


def test_the_credential_is_echoed_where_a_test_wants_to_see_it_redacted(client: Client) -> None:
    answer = client.ask("[[echo-key]]")
    assert answer.status_code == 403
    assert DEFAULT_KEY in answer.text
    assert answer.headers["x-emulator-echo"] == DEFAULT_KEY


def test_a_url_may_stand_in_place_of_base64(client: Client) -> None:
    parts = client.ask("A lorry [[url]] [[lead-text=off]]", IMAGE).json()["candidates"][0]["content"]["parts"]
    assert parts[0]["inlineData"]["data"].startswith("https://")


def test_the_url_may_be_one_of_the_tests_own(client: Client) -> None:
    mine = "http://127.0.0.1:1/a.png"
    parts = client.ask(f"A lorry [[url={mine}]] [[lead-text=off]]", IMAGE).json()["candidates"][0]["content"]["parts"]
    assert parts[0]["inlineData"]["data"] == mine


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_pictures_come_in_the_format_asked_for(client: Client, kind: str) -> None:
    answer = client.ask(f"A lorry [[image-type={kind}]] [[lead-text=off]]", IMAGE).json()
    blob = answer["candidates"][0]["content"]["parts"][0]["inlineData"]
    assert blob["mimeType"] == f"image/{kind}"
    assert Image.open(io.BytesIO(base64.b64decode(blob["data"]))).format == kind.upper()


def test_drafts_come_before_the_pictures_marked_as_thoughts_and_are_not_billed(client: Client) -> None:
    answer = client.ask("A lorry [[drafts=2]] [[images=2]] [[url]] [[lead-text=off]]", IMAGE).json()
    parts = answer["candidates"][0]["content"]["parts"]
    assert [part.get("thought") for part in parts] == [True, True, None, None]
    assert len({part["inlineData"]["data"] for part in parts}) == 4
    assert answer["usageMetadata"]["candidatesTokensDetails"] == [{"modality": "IMAGE", "tokenCount": 2240}]
    assert client.last_billed()["images"] == 2


def test_a_picture_of_20_mb_is_20_mb(client: Client) -> None:
    answer = client.ask("A lorry [[image-bytes=20000000]] [[lead-text=off]]", IMAGE).json()
    data = base64.b64decode(answer["candidates"][0]["content"]["parts"][0]["inlineData"]["data"])
    assert len(data) == 20_000_000
    Image.open(io.BytesIO(data)).load()


def test_the_tier_is_told_in_header_and_usage(client: Client) -> None:
    answer = client.ask("hello", service_tier="priority")
    assert answer.headers["x-gemini-service-tier"] == "priority"
    assert answer.json()["usageMetadata"]["serviceTier"] == "priority"
    downgraded = client.ask("hello [[tier=standard]]", serviceTier="priority")
    assert downgraded.headers["x-gemini-service-tier"] == "standard"


@pytest.mark.parametrize("verb", ["countTokens", "embedContent"])
def test_directives_work_for_every_operation(client: Client, verb: str) -> None:
    model = EMBEDDING if verb == "embedContent" else TEXT
    content = {"parts": [{"text": "[[status=429]]"}]}
    body = {"content": content} if verb == "embedContent" else {"contents": [content]}
    assert client.post(f"/v1/models/{model}:{verb}", json=body).status_code == 429
