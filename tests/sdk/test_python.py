"""google-genai for Python, unchanged but for base URL and key: what it returns through Weighbridge is what it returns
from the upstream itself."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx2
import pytest
from google import genai
from google.genai import types
from google.genai.chats import AsyncChat, Chat
from google.genai.errors import APIError, ClientError
from pydantic import BaseModel

from tests.sdk.conftest import Way, crossing, targets
from tests.sdk.scenarios import SCENARIOS, TEXT, Scenario

pytestmark = pytest.mark.anyio
everything = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
_CAPITAL = re.compile("[A-Z]")


def client(way: Way, **http: Any) -> genai.Client:
    return genai.Client(api_key=way.key, http_options=types.HttpOptions(base_url=way.base_url, **http))


@pytest.fixture(scope="module")
def clients(direct: Way, through: Way) -> Iterator[tuple[genai.Client, genai.Client]]:
    with client(direct) as straight, client(through) as weighed:
        yield straight, weighed


@pytest.fixture(scope="module")
async def aclients(direct: Way, through: Way) -> AsyncIterator[tuple[genai.Client, genai.Client]]:
    straight, weighed = client(direct), client(through)
    async with straight.aio, weighed.aio:
        yield straight, weighed


@everything
def test_synchronous(scenario: Scenario, clients: tuple[genai.Client, genai.Client]) -> None:
    """Every response, chunk and exception of the synchronous client is the same both ways."""
    straight, weighed = (shown(play(client, scenario)) for client in clients)
    assert scenario.shows in str(straight)
    assert weighed == straight


@everything
async def test_asynchronous(scenario: Scenario, aclients: tuple[genai.Client, genai.Client]) -> None:
    """Every response, chunk and exception of the asynchronous client is the same both ways."""
    straight, weighed = [shown(await aplay(client, scenario)) for client in aclients]
    assert scenario.shows in str(straight)
    assert weighed == straight


def test_a_function_is_called_by_the_sdk(clients: tuple[genai.Client, genai.Client]) -> None:
    """A Python function given as a tool is called between two requests, and its result is in the answer."""
    called = []

    def get_weather(city: str) -> str:
        """Tells the weather of a city."""
        called.append(city)
        return "sunny"

    answers = [
        client.models.generate_content(model=TEXT, contents="Use get_weather", config={"tools": [get_weather]})
        for client in clients
    ]
    straight, weighed = map(shown, ([answer] for answer in answers))
    assert len(called) == 2
    assert "sunny" in (answers[1].text or "")
    assert weighed == straight


@pytest.mark.parametrize("version", ["v1", "v1beta", "v1alpha", "v1beta1"])
def test_each_api_version_crosses_as_asked(version: str, direct: Way, through: Way) -> None:
    """api_version goes up as it came, and answers."""
    with client(through, api_version=version) as weighed, targets(direct) as seen:
        assert weighed.models.generate_content(model=TEXT, contents="Hello").text
    assert seen == [f"/{version}/models/{TEXT}:generateContent"]


@pytest.mark.parametrize("ending", ["/", "/v1beta", "/v1beta/", "//"])
def test_base_urls_as_pasted(ending: str, direct: Way, through: Way) -> None:
    """A trailing slash, or the version that Google's own snippets have in their URL, does no harm."""
    with client(Way(through.base_url + ending, through.key)) as weighed, targets(direct) as seen:
        assert weighed.models.generate_content(model=TEXT, contents="Hello").text
    assert seen == [f"/v1/models/{TEXT}:generateContent"]


def test_no_api_version(direct: Way, through: Way) -> None:
    """A client told to send no version at all is answered from v1beta."""
    with client(Way(through.base_url, through.key), api_version="") as weighed, targets(direct) as seen:
        assert weighed.models.generate_content(model=TEXT, contents="Hello").text
    assert seen == [f"/v1beta/models/{TEXT}:generateContent"]


def test_base_url_and_key_from_the_environment(through: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code that names neither base URL nor key needs no change: both come from the variables that the SDK reads."""
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", through.base_url)
    monkeypatch.setenv("GOOGLE_API_KEY", through.key)
    with genai.Client() as weighed:
        answer = weighed.models.generate_content(model=TEXT, contents="Hello")
    assert "x-weighbridge-request-id" in _headers(answer)


def test_what_is_added_to_a_response(clients: tuple[genai.Client, genai.Client]) -> None:
    """The SDK shows the id of the call at Weighbridge beside Google's own headers."""
    straight, weighed = (_headers(client.models.generate_content(model=TEXT, contents="Hello")) for client in clients)
    assert weighed.keys() - straight.keys() <= {"x-weighbridge-request-id", "content-length", "transfer-encoding"}
    assert straight.keys() - weighed.keys() <= {"alt-svc", "content-encoding", "content-length", "transfer-encoding"}


@pytest.mark.parametrize("stream", [False, True], ids=["single", "streamed"])
def test_a_wrong_key_is_refused_as_google_does(stream: bool, direct: Way, through: Way) -> None:
    """A key that isn't known raises what Google's refusal raises; only the domain of the ErrorInfo is ours."""
    raised = []
    for way in (direct, through):
        with client(Way(way.base_url, "wrong")) as wrong, pytest.raises(ClientError) as caught:
            _greet(wrong, stream)
        raised.append(caught.value)
    straight, weighed = raised
    assert (weighed.code, weighed.status, weighed.message) == (straight.code, straight.status, straight.message)
    assert [_reason(error) for error in raised] == [
        ("API_KEY_INVALID", "googleapis.com"),
        ("API_KEY_INVALID", "weighbridge"),
    ]


def play(client: genai.Client, scenario: Scenario) -> list[Any]:
    """All that the synchronous client returns, in order, and the exception that ended it."""
    seen: list[Any] = []
    try:
        for came in _calls(client, scenario):
            seen.extend([came] if isinstance(came, BaseModel) else came)
    except (APIError, httpx2.HTTPError) as error:
        seen.append(error)
    return seen


async def aplay(client: genai.Client, scenario: Scenario) -> list[Any]:
    """The same of the asynchronous client."""
    seen: list[Any] = []
    try:
        for coming in _calls(client.aio, scenario):
            came = await coming
            seen.extend([came] if isinstance(came, BaseModel) else [])
            if not isinstance(came, BaseModel):
                async for piece in came:
                    seen.append(piece)
    except (APIError, httpx2.HTTPError) as error:
        seen.append(error)
    return seen


def _calls(client: Any, scenario: Scenario) -> Iterator[Any]:
    """What the methods return, called one after the other as the results are taken."""
    given = scenario.arguments
    method = _CAPITAL.sub(lambda capital: "_" + capital[0].lower(), scenario.method)
    if "messages" in given:
        chat: Chat | AsyncChat = client.chats.create(model=given["model"])
        for message in given["messages"]:
            yield getattr(chat, method)(message)
    else:
        yield getattr(client.models, method)(**{name: _read(name, value) for name, value in given.items()})


def _read(name: str, value: Any) -> Any:
    """Contents as the SDK's own types: from JSON, for pictures stand in it as base64."""
    if name == "contents" and isinstance(value[0], dict):
        return [types.Content.model_validate_json(json.dumps(content)) for content in value]
    return value


def shown(pieces: list[Any]) -> list[dict[str, Any]]:
    """The whole of what was returned or raised, without what is listed as different and each response's own id."""
    return [_raised(piece) if isinstance(piece, Exception) else _dumped(piece) for piece in pieces]


def _dumped(piece: BaseModel) -> dict[str, Any]:
    dump = {"type": type(piece).__name__, **piece.model_dump()}
    if dump.get("response_id"):
        dump["response_id"] = "one"
    if http := dump.get("sdk_http_response"):
        http["headers"] = crossing(http["headers"])
    return dump


def _raised(error: Exception) -> dict[str, Any]:
    fields = {name: getattr(error, name, None) for name in ("code", "status", "message", "details")}
    return {"raised": type(error).__name__, "says": str(error), **fields}


def _greet(client: genai.Client, stream: bool) -> None:
    if stream:
        list(client.models.generate_content_stream(model=TEXT, contents="Hello"))
    else:
        client.models.generate_content(model=TEXT, contents="Hello")


def _headers(answer: types.GenerateContentResponse) -> dict[str, str]:
    assert answer.sdk_http_response is not None
    return answer.sdk_http_response.headers or {}


def _reason(error: ClientError) -> tuple[str, str]:
    info = error.details["error"]["details"][0]
    return info["reason"], info["domain"]
