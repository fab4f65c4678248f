"""Calls by an alias: what goes up differs in the model's name and in nothing else; each name counts where it should."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.config.limits import parse_all
from proxy.store.database import open_database
from proxy.tenants import keys, projects
from tests.journeys.test_bytes import call, framed, without
from tests.journeys.watching import DEADLINE_S, body, until
from tests.scripted import Received, Scripted, says, scripted
from tests.stand import Weighbridge, weighbridge

ASKED, USED = "gemini-2.5-flash-image", "gemini-nano-banana-2.1"
OLD, NEW = "gemini-1.5-flash", "gemini-3.8-flash"
EMBEDS, EMBEDDING = "text-embedding-004", "gemini-embedding-2"
MODELS = [
    {"match": ASKED, "use": USED},
    {"match": EMBEDS, "use": EMBEDDING},
    {"match": "gemini-1.5-*", "use": NEW},
    {"match": "to-nowhere", "use": "gemini-nowhere"},
]
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


@pytest.fixture(scope="module")
def script() -> Iterator[Scripted]:
    with scripted(says(OK)) as running:
        yield running


@pytest.fixture(scope="module")
def raw(script: Scripted, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weighbridge]:
    with weighbridge(tmp_path_factory.mktemp("raw"), script.base_url, {"models": MODELS}) as running:
        yield running


@pytest.fixture(scope="module")
def raw_key(raw: Weighbridge) -> bytes:
    return raw.key().encode()


@pytest.fixture(scope="module")
def stand(upstream: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weighbridge]:
    with weighbridge(tmp_path_factory.mktemp("aliases"), upstream, {"models": MODELS}) as running:
        yield running


texts = st.text(max_size=20) | st.sampled_from([ASKED, f"models/{ASKED}", '"model":', "\\"])
trees = st.recursive(
    st.none() | st.integers() | texts,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.sampled_from("abcx"), children, max_size=3),
    max_leaves=6,
)


def document(model: str, content: Any, verb: str) -> dict[str, Any]:
    """A body that names its model wherever its operation may."""
    named = {"content": content, "model": f"models/{model}"}
    if verb == "batchEmbedContents":
        return {"requests": [named, {"x": content}, named], "model": model}
    if verb == "countTokens":
        return {"generateContentRequest": named, "contents": content}
    return named


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=trees,
    verb=st.sampled_from(["embedContent", "batchEmbedContents", "countTokens", "streamGenerateContent?alt=sse"]),
    version=st.sampled_from(["v1", "v1beta"]),
    indent=st.sampled_from([None, 1]),
    ascii_=st.booleans(),
    slashes=st.booleans(),
    chunked=st.booleans(),
    sizes=st.lists(st.integers(1, 90), max_size=4),
)
def test_a_call_by_an_alias_differs_in_the_models_name_and_its_length_only(
    raw: Weighbridge,
    script: Scripted,
    raw_key: bytes,
    content: Any,
    verb: str,
    version: str,
    indent: int | None,
    ascii_: bool,
    slashes: bool,
    chunked: bool,
    sizes: list[int],
) -> None:
    """The same call made by both names, byte for byte, as the upstream gets it."""

    def written(model: str) -> bytes:
        text = json.dumps(document(model, content, verb), indent=indent, ensure_ascii=ascii_)
        return (text.replace("/", "\\/") if slashes else text).encode("utf-8", "replace")

    up = []
    for model in (ASKED, USED):
        fields = [(b"Host", b"x"), (b"X-Goog-Api-Key", raw_key), (b"X-Strange", b"a  b"), (b"Connection", b"close")]
        head = f"POST /{version}/models/{model}:{verb} HTTP/1.1".encode()
        answer, _ = call(raw.base_url, framed(head, fields, written(model), sizes, chunked))
        assert answer.status_code == 200
        up.append(script.received[-1])
    by_alias, plain = up
    assert by_alias.target == plain.target == f"/{version}/models/{USED}:{verb}".encode()
    assert by_alias.body == plain.body == written(USED)
    assert by_alias.headers == plain.headers
    assert dict(by_alias.headers)[b"content-length"] == b"%d" % len(by_alias.body)


def test_a_body_of_many_megabytes_is_spliced_as_it_goes_up(raw: Weighbridge, script: Scripted, raw_key: bytes) -> None:
    """It lies in a mapping and goes up in pieces; with a name before the pictures, and one behind them."""
    picture = {"inlineData": {"mimeType": "image/png", "data": "QUJD" * 2_000_000}}

    def written(model: str) -> bytes:
        requests = [{"model": f"models/{model}", "content": {"parts": [picture]}}, {"model": model}]
        return json.dumps({"requests": requests}).encode()

    head = f"POST /v1beta/models/{ASKED}:batchEmbedContents HTTP/1.1".encode()
    fields = [(b"Host", b"x"), (b"X-Goog-Api-Key", raw_key), (b"Connection", b"close")]
    answer, _ = call(raw.base_url, framed(head, fields, written(ASKED), [], False))
    assert answer.status_code == 200
    assert script.received[-1].body == written(USED)


def test_a_call_of_no_alias_crosses_as_ever(raw: Weighbridge, script: Scripted, raw_key: bytes) -> None:
    """Also one whose body speaks of an alias where no model is named."""
    sent = json.dumps({"contents": [{"parts": [{"text": f'"model": "{ASKED}"'}]}]}).encode()
    head = f"POST /v1beta/models/{NEW}:generateContent?alt=json HTTP/1.1".encode()
    fields = [(b"Host", b"x"), (b"X-Goog-Api-Key", raw_key), (b"Connection", b"close")]
    call(raw.base_url, framed(head, fields, sent, [], False))
    up: Received = script.received[-1]
    assert (up.target, up.body) == (f"/v1beta/models/{NEW}:generateContent?alt=json".encode(), sent)


def test_a_list_of_models_is_the_upstreams_with_the_aliases_in_it(raw: Weighbridge, script: Scripted) -> None:
    """Byte for byte; the length is mended, other headers are as they came."""
    page = json.dumps({"models": [{"name": f"models/{USED}", "baseModelId": USED, "x": "é"}]}, indent=2).encode()
    more = json.dumps({"name": f"models/{ASKED}", "baseModelId": ASKED, "x": "é"}, indent=2).replace("\n", "\n    ")
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nETag: x\r\nContent-Length: %d\r\n\r\n"
    script.answer = says(head % len(page) + page)
    try:
        key = raw.key().encode()
        fields = [(b"Host", b"x"), (b"X-Goog-Api-Key", key), (b"Connection", b"close")]
        request = b"\r\n".join([b"GET /v1beta/models HTTP/1.1", *(b"%b: %b" % field for field in fields), b"", b""])
        answer, came = call(raw.base_url, request)
    finally:
        script.answer = says(OK)
    assert came == page.replace(b"    }\n  ]", b"    },\n    " + more.encode() + b"\n  ]")
    assert dict(answer.headers)[b"content-length"] == b"%d" % len(came)
    ours = {b"x-weighbridge-request-id", b"content-length", b"connection", b"date"}
    assert without(list(answer.headers), ours) == [(b"content-type", b"application/json"), (b"etag", b"x")]


def ask(stand: Weighbridge, key: str, model: str, verb: str = ":generateContent", **more: Any) -> httpx2.Response:
    method, sent = ("POST", more.get("json", body("hi"))) if verb else ("GET", None)
    url, headers = f"{stand.base_url}/v1beta/models/{model}{verb}", {"x-goog-api-key": key}
    return httpx2.request(method, url, json=sent, headers=headers, timeout=DEADLINE_S)


def test_the_ledger_has_both_names_and_everything_else_goes_by_the_model_used(stand: Weighbridge) -> None:
    key = stand.key("ledger")
    for model in (ASKED, OLD, NEW):
        assert ask(stand, key, model).status_code == 200
    three = until(lambda: (found := [each for each in stand.records() if each.project == "ledger"])[2:] and found, "3")
    names = [(each.model_asked, each.model, each.priced_as) for each in three]
    assert names == [(ASKED, USED, USED), (OLD, NEW, NEW), (NEW, NEW, NEW)]
    assert three[1].rates == three[2].rates
    metrics = httpx2.get(f"{stand.admin_url}/metrics").text
    counted = set(re.findall(r'weighbridge_requests_total\{[^}]*model="([^"]+)"[^}]*project="ledger"', metrics))
    assert counted == {USED, NEW}
    assert "gemini-2.5-flash-image" not in stand.run("usage", "report", "--by", "model")


def test_every_operation_is_made_by_an_alias(stand: Weighbridge) -> None:
    key = stand.key()
    content = body("hi")["contents"][0]
    named = {"model": f"models/{EMBEDS}", "content": content}
    assert ask(stand, key, EMBEDS, ":embedContent", json=named).status_code == 200
    assert ask(stand, key, EMBEDS, ":batchEmbedContents", json={"requests": [named, named]}).status_code == 200
    counted = {"generate_content_request": {"model": f"models/{OLD}", "contents": [content]}}
    answer = ask(stand, key, OLD, ":countTokens", json=counted)
    assert (answer.status_code, answer.json()["totalTokens"]) == (200, 1)
    assert "data: " in ask(stand, key, OLD, ":streamGenerateContent?alt=sse").text
    other = ask(stand, key, EMBEDS, ":embedContent", json=named | {"model": "models/gemini-embedding-001"})
    assert other.status_code == 400
    assert f"the path, which says {EMBEDS}" in other.text


def test_lists_and_models_are_shown_by_the_names_that_callers_ask_for(stand: Weighbridge, upstream: str) -> None:
    """An alias that the upstream still lists itself is left to that; one to a model that it hasn't is not offered."""
    key = stand.key()
    headers = {"x-goog-api-key": "emulator-key"}
    straight = httpx2.get(f"{upstream}/v1beta/models", headers=headers).json()["models"]
    listed = ask(stand, key, "", "").json()["models"]
    names = [model["name"] for model in listed]
    assert [name for name in names if name != f"models/{EMBEDS}"] == [model["name"] for model in straight]
    place = names.index(f"models/{EMBEDS}")
    assert listed[place] == {**listed[place - 1], "name": f"models/{EMBEDS}"}
    assert listed[place - 1]["name"] == f"models/{EMBEDDING}"
    for alias, model in ((OLD, NEW), (EMBEDS, EMBEDDING)):
        shown, own = ask(stand, key, alias, "").json(), ask(stand, key, model, "").json()
        assert shown == {**own, "name": f"models/{alias}"}
    missing = ask(stand, key, "to-nowhere", "")
    assert missing.status_code == 404


def test_a_limit_counts_for_the_model_used_by_whichever_name_it_is_asked_for(stand: Weighbridge) -> None:
    database, now = open_database(stand.storage), time.time_ns() // 1000
    limits = parse_all([f"rpd=2,model={NEW}", f"rpd=1,model={OLD}"])
    projects.create(database, "limited", now, actor="test", limits=limits)
    key = stand.key("limited")
    assert [ask(stand, key, model).status_code for model in (OLD, NEW, OLD, NEW)] == [200, 200, 429, 429]


def test_whoever_may_use_either_name_may_call_it_and_a_refusal_names_the_one_asked_for(stand: Weighbridge) -> None:
    database, now = open_database(stand.storage), time.time_ns() // 1000
    projects.create(database, "either", now, actor="test")

    def allowed(glob: str) -> str:
        return keys.create(database, "either", "one", now, secrets.randbelow, actor="test", models=[glob])[1]

    by_alias, by_model, neither = (allowed(glob) for glob in (OLD, NEW, "gemini-4-*"))
    assert ask(stand, by_alias, OLD).status_code == ask(stand, by_model, OLD).status_code == 200
    assert ask(stand, by_model, NEW).status_code == 200
    assert ask(stand, by_alias, NEW).headers["x-weighbridge-refused"] == "MODEL_NOT_ALLOWED"
    refused = ask(stand, neither, OLD)
    assert refused.headers["x-weighbridge-refused"] == "MODEL_NOT_ALLOWED"
    assert f"may not use the model '{OLD}', only gemini-4-*" in refused.json()["error"]["message"]


def test_a_model_without_a_price_is_refused_under_a_budget_by_the_name_asked_for(stand: Weighbridge) -> None:
    database, now = open_database(stand.storage), time.time_ns() // 1000
    projects.create(database, "budgeted", now, actor="test", limits=parse_all(["usd=1,per=day"]))
    refused = ask(stand, stand.key("budgeted"), "to-nowhere")
    assert refused.headers["x-weighbridge-refused"] == "MODEL_UNPRICED"
    assert "The model to-nowhere has no price here" in refused.json()["error"]["message"]
    assert "gemini-nowhere" not in refused.text


def test_a_changed_alias_is_in_force_without_a_restart(stand: Weighbridge) -> None:
    key = stand.key("changing")
    file = stand.folder / "weighbridge.toml"
    was = file.read_text()
    file.write_text(was.replace('match = "gemini-1.5-*"', 'match = "gemini-9-*"'))
    try:
        until(lambda: ask(stand, key, OLD, "").status_code == 404, "the alias is gone")
        assert ask(stand, key, "gemini-9-flash", "").json()["name"] == "models/gemini-9-flash"
    finally:
        file.write_text(was)
        until(lambda: ask(stand, key, OLD, "").status_code == 200, "it is back")
