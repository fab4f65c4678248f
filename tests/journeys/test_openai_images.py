"""Pictures asked for as at OpenAI, through the whole proxy: what its SDKs return, what goes up, what is billed."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from tests.journeys.drawing import client, data_url, decoded, hold_together, hole, key_of, png, seeing
from tests.journeys.watching import connect, until
from tests.sdk.node import run
from tests.stand import Weighbridge

PNG = png()


@pytest.fixture(scope="module")
def key(stand: Weighbridge) -> str:
    return stand.key("painters")


@pytest.fixture(scope="module")
def sdk(stand: Weighbridge, key: str) -> Iterator[openai.OpenAI]:
    with client(stand, key) as made:
        yield made


@pytest.mark.parametrize("prefix", ["/v1", "/openai/v1"])
def test_n_pictures_are_n_records_of_one_request(stand: Weighbridge, key: str, prefix: str) -> None:
    """What they cost is what the emulator bills; tokens told are the sum."""
    with client(stand, key, prefix) as sdk, seeing(stand) as seen:
        answer = sdk.images.with_raw_response.generate(prompt="three lorries", n=3, size="1536x1024")
        made = answer.parse()
    assert made.data is not None
    assert made.usage is not None
    assert [decoded(one.b64_json or "").size for one in made.data] == [(1264, 848)] * 3
    assert (made.size, made.output_format, made.background) == ("1264x848", "jpeg", "opaque")
    request_id = answer.headers["x-weighbridge-request-id"]
    assert [record.request_id for record in seen.records] == [request_id] * 3
    assert {(record.operation, record.outcome, record.images) for record in seen.records} == {
        ("generateContent", "ok", 1)
    }
    assert made.usage.total_tokens == sum(record.total_token_count or 0 for record in seen.records)
    assert all(record.cost_usd for record in seen.records)
    assert len({record.record_id for record in seen.records}) == 3
    hold_together(seen)


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_pictures_come_in_the_format_asked_for(sdk: openai.OpenAI, kind: Any) -> None:
    made = sdk.images.generate(prompt="a lorry", output_format=kind)
    assert made.data is not None
    assert made.output_format == kind
    assert (decoded(made.data[0].b64_json or "").format or "").lower() == kind


def test_edits_send_the_pictures_in_order_and_the_mask(stand: Weighbridge, sdk: openai.OpenAI, key: str) -> None:
    """As a form, one or many, and as JSON with data URLs: up go the bytes that were given."""
    second = png(color="blue")
    images = [{"image_url": data_url(PNG)}, {"image_url": data_url(second)}]
    with seeing(stand) as seen:
        one = sdk.images.edit(image=PNG, prompt="blue", size="auto")
        many = sdk.images.edit(image=[PNG, second], prompt="merge", n=2, input_fidelity="high")
        masked = sdk.images.edit(image=("a.png", PNG), mask=("m.png", hole()), prompt="a hole")
        by_json = httpx2.post(
            f"{stand.base_url}/v1/images/edits",
            headers={"authorization": f"Bearer {key}"},
            json={"prompt": "as JSON", "images": images, "mask": {"image_url": data_url(hole())}},
        )
    assert [len(made.data or ()) for made in (one, many, masked)] == [1, 2, 1]
    assert by_json.status_code == 200, by_json.text
    decoded(by_json.json()["data"][0]["b64_json"])
    sent = [_pictures(request) for request in seen.requests]
    drawn = sent[-1][-1]
    assert sent == [[PNG], [PNG, second], [PNG, second], [PNG, drawn], [PNG, second, drawn]]
    assert decoded(base64.b64encode(drawn).decode()).getpixel((5, 5)) == 255
    hold_together(seen)


def _pictures(request: dict[str, Any]) -> list[bytes]:
    """What went up, of the emulator's log."""
    parts = json.loads(base64.b64decode(request["body_base64"]))["contents"][0]["parts"]
    return [base64.b64decode(part["inlineData"]["data"]) for part in parts if "inlineData" in part]


def test_a_stream_has_drafts_and_one_final_event_for_each_picture(stand: Weighbridge, sdk: openai.OpenAI) -> None:
    with seeing(stand) as seen:
        events = list(sdk.images.generate(prompt="[[images=3]]", stream=True, partial_images=2, n=2))
        edits = list(sdk.images.edit(image=PNG, prompt="blue", stream=True))
    assert sorted(event.type for event in events) == sorted(
        ["image_generation.partial_image", "image_generation.partial_image", "image_generation.completed"] * 2
    )
    assert [event.type for event in edits] == ["image_edit.completed"]
    for event in (*events, *edits):
        decoded(event.b64_json)
    hold_together(seen)


def test_the_sdk_for_javascript_draws(stand: Weighbridge, key: str) -> None:
    given = {
        "options": {"baseURL": f"{stand.base_url}/v1", "apiKey": key},
        "picture": base64.b64encode(PNG).decode(),
        "mask": base64.b64encode(hole()).decode(),
    }
    with seeing(stand) as seen:
        came = run("images.mjs", given, {})
    assert [len(came[name]["data"]) for name in ("generated", "edited", "merged", "masked")] == [3, 1, 1, 1]
    assert decoded(came["generated"]["data"][2]["b64_json"]).format == "JPEG"
    assert [event["type"] for event in came["events"]] == [
        "image_generation.partial_image",
        "image_generation.completed",
    ]
    assert came["wrong"] == {"name": "BadRequestError", "status": 400, "code": "bad_request", "param": "n"}
    assert (came["blocked"]["name"], came["blocked"]["code"]) == ("BadRequestError", "moderation_blocked")
    assert (came["slow"]["name"], came["slow"]["status"]) == ("RateLimitError", 429)
    assert len(seen.billed) == 1 + 3 + 1 + 1 + 1 + 1 + 1, "nothing twice"


@pytest.mark.parametrize(
    "told", ["[[images=0]] [[finish=IMAGE_SAFETY]]", "[[refuse=IMAGE_SAFETY]]", "[[block=SAFETY]]"]
)
def test_a_refused_picture_costs_what_google_reports_and_is_asked_for_once(
    stand: Weighbridge, key: str, told: str
) -> None:
    """And not the price of a picture. The SDK would have tried it twice again."""
    with client(stand, key, retries=2) as sdk, seeing(stand) as seen, pytest.raises(openai.BadRequestError) as raised:
        sdk.images.generate(prompt=told)
    assert raised.value.code == "moderation_blocked"
    assert raised.value.response.headers["x-should-retry"] == "false"
    (record,) = seen.records
    assert record.images == 0
    assert not any("image" in name for name in record.rates or {})
    hold_together(seen)


def test_what_is_not_paid_for_is_repeated_by_the_sdk(stand: Weighbridge, key: str) -> None:
    """Google's 503 costs nothing."""
    with client(stand, key, retries=1) as sdk, seeing(stand) as seen, pytest.raises(openai.InternalServerError):
        sdk.images.generate(prompt="[[status=503]]")
    assert len({record.request_id for record in seen.records}) == 2
    assert sum(record.cost_usd or 0 for record in seen.records) == 0


def test_an_answer_by_url_is_an_error_that_says_so(stand: Weighbridge, key: str) -> None:
    """It is paid for, so nothing repeats it."""
    with client(stand, key, retries=2) as sdk, seeing(stand) as seen, pytest.raises(openai.APIStatusError) as raised:
        sdk.images.generate(prompt="[[url]]")
    assert "images.fetch_urls" in raised.value.message
    assert len(seen.records) == len(seen.billed) == 1
    assert seen.records[0].cost_usd


def test_a_limit_lets_as_many_pictures_through(stand: Weighbridge) -> None:
    """Of three two, and what the third was refused for is said."""
    with client(stand, key_of(stand, "two-a-minute", "rpm=2")) as sdk, seeing(stand) as seen:
        answer = sdk.images.with_raw_response.generate(prompt="three", n=3)
        made = json.loads(answer.text)
        with pytest.raises(openai.RateLimitError) as raised:
            sdk.images.generate(prompt="three", n=3)
    assert len(made["data"]) == 2
    assert "2 of the 3" in answer.headers["x-weighbridge-hint"] or "2 of 3" in answer.headers["x-weighbridge-hint"]
    assert [error["type"] for error in made["x_weighbridge"]["failed"]] == ["rate_limit_error"]
    assert raised.value.response.headers["x-weighbridge-refused"] == "RATE_LIMITED"
    assert len(seen.records) == 2
    hold_together(seen)


def test_a_stream_in_which_one_fails_ends_with_an_error(stand: Weighbridge) -> None:
    """The pictures come first; the SDK raises after them."""
    with client(stand, key_of(stand, "streaming", "rpm=2")) as sdk, seeing(stand) as seen:
        stream = iter(sdk.images.generate(prompt="three", n=3, stream=True))
        types = [next(stream).type for _ in range(2)]
        with pytest.raises(openai.APIError):
            next(stream)
    assert types == ["image_generation.completed"] * 2
    hold_together(seen)


def test_who_may_not_is_refused_before_anything_goes_up(stand: Weighbridge) -> None:
    """By the budget, by the key's models, by a key that is none."""
    stand.run("project", "create", "poor", "--budget", "0.01")
    stand.run("project", "create", "pro", "--models", "gemini-3-pro-*")
    stand.key("poor")
    with seeing(stand) as seen:
        for given, error in (
            (stand.key("poor", "k"), openai.APIStatusError),
            (stand.key("pro"), openai.PermissionDeniedError),
            ("wb_" + "0" * 38, openai.APIStatusError),
        ):
            with client(stand, given) as sdk, pytest.raises(error):
                sdk.images.generate(prompt="a lorry", model="gemini-nano-banana-2.1")
    assert (seen.requests, seen.records) == ([], [])


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def bare_png(width: int, height: int, *chunks: bytes) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + chunk(b"IEND", b"")


NO_PIXELS = chunk(b"IDAT", zlib.compress(b""))
BOMB = bare_png(
    64, 64, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(100_000_000))), chunk(b"IDAT", zlib.compress(b""))
)
WRONG_EDITS: dict[str, tuple[dict[str, Any], str]] = {
    "zip bomb": ({"image": BOMB}, "image"),
    "truncated": ({"image": PNG[:-20]}, "image"),
    "30,000 x 30,000": ({"image": bare_png(30_000, 30_000, NO_PIXELS)}, "image"),
    "no picture": ({"image": b"GIF89a" + bytes(100)}, "image"),
    "empty": ({"image": b""}, "image"),
    "mask of another size": ({"image": PNG, "mask": hole(32, 64)}, "mask"),
    "mask without alpha": ({"image": PNG, "mask": PNG}, "mask"),
    "17 pictures": ({"image": [PNG] * 17}, "image"),
}


@pytest.mark.parametrize("what", WRONG_EDITS)
def test_a_wrong_picture_goes_nowhere(stand: Weighbridge, sdk: openai.OpenAI, what: str) -> None:
    given, param = WRONG_EDITS[what]
    with seeing(stand) as seen, pytest.raises(openai.BadRequestError) as raised:
        sdk.images.edit(prompt="blue", **given)
    assert (raised.value.param or "").removesuffix("[]") == param
    assert (seen.requests, seen.records) == ([], [])


WRONG: dict[str, tuple[dict[str, Any], str | None]] = {
    "n = 0": ({"n": 0}, "n"),
    "n = 11": ({"n": 11}, "n"),
    'n = "3"': ({"n": "3"}, "n"),
    "n = 1.5": ({"n": 1.5}, "n"),
    "n = true": ({"n": True}, "n"),
    "no such size": ({"size": "1x1"}, "size"),
    "empty prompt": ({"prompt": " "}, "prompt"),
    "no prompt": ({"prompt": None}, "prompt"),
    "100 kB": ({"prompt": "x" * 100_000}, "prompt"),
    "text model": ({"model": "gemini-3.8-flash"}, "model"),
    "model of no name": ({"model": "../x"}, "model"),
    "native field": ({"generationConfig": {}}, "generationConfig"),
    "native field, snake": ({"generation_config": {}}, "generation_config"),
    "url": ({"response_format": "url"}, "response_format"),
    "a picture": ({"image": data_url(PNG)}, "image"),
    "pictures": ({"images": [{"image_url": data_url(PNG)}]}, "image"),
}
WRONG_JSON_EDITS: dict[str, tuple[Any, str | None]] = {
    "https": ([{"image_url": "https://example.com/a.png"}], "images"),
    "http": ([{"image_url": "http://example.com/a.png"}], "images"),
    "numbers": ([1, 2], "images"),
    "nested lists": ([[[data_url(PNG)]]], "images"),
    "nested objects": ({"image_url": {"url": {"url": {"url": data_url(PNG)}}}}, "images"),
    "a file of OpenAI's": ([{"file_id": "file-123"}], "images"),
    "not base64": ([{"image_url": "data:image/png;base64,????"}], "images"),
    "no base64": ([{"image_url": "data:image/png,abc"}], "images"),
    "a lone surrogate": ([{"image_url": "\ud800"}], None),
    "none": ([], "images"),
    "null": (None, "images"),
    "17": ([{"image_url": data_url(PNG)}] * 17, "images"),
}


def test_a_wrong_request_goes_nowhere(stand: Weighbridge, key: str) -> None:
    """Each is answered with an error of OpenAI's that names the parameter."""
    asked = [("generations", {"prompt": "x"} | wrong, param, what) for what, (wrong, param) in WRONG.items()]
    asked += [
        ("edits", {"prompt": "x", "images": images}, param, what) for what, (images, param) in WRONG_JSON_EDITS.items()
    ]
    with seeing(stand) as seen, httpx2.Client(base_url=stand.base_url, headers={"x-api-key": key}) as http:
        for path, body, param, what in asked:
            content = json.dumps(body)  # httpx2 would not write a lone surrogate
            answer = http.post(f"/v1/images/{path}", content=content, headers={"content-type": "application/json"})
            assert answer.status_code == 400, (what, answer.text)
            error = answer.json()["error"]
            assert (error["type"], error["param"] or None) == ("invalid_request_error", param), (what, error)
            assert error["message"], what
    assert (seen.requests, seen.records) == ([], [])


BOUNDARY = {"content-type": "multipart/form-data; boundary=b"}
PART = b'--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nx\r\n'
BROKEN: dict[str, tuple[dict[str, str], bytes]] = {
    "no boundary": ({"content-type": "multipart/form-data"}, PART + b"--b--\r\n"),
    "10,000 parts": (BOUNDARY, PART * 10_000 + b"--b--\r\n"),
    "no end": (BOUNDARY, PART),
    "not a form": (BOUNDARY, b"hello"),
    "nothing": (BOUNDARY, b""),
    "no name": (BOUNDARY, b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n"),
    "not JSON": ({"content-type": "application/json"}, b"{"),
    "a list": ({"content-type": "application/json"}, b"[]"),
    "deep": ({"content-type": "application/json"}, b'{"prompt":' + b"[" * 60_000),
    "deep picture": ({"content-type": "application/json"}, b'{"prompt":"x","image":' + b"[" * 60_000),
    "not UTF-8": ({"content-type": "application/json"}, b'{"prompt":"\xff"}'),
    "a million numbers": (
        {"content-type": "application/json"},
        b'{"prompt":"x","images":[' + b"1," * 1_000_000 + b"1]}",
    ),
    "a million names": (
        {"content-type": "application/json"},
        b'{"prompt":"x"' + b"".join(b',"%d":1' % number for number in range(1_000_000)) + b"}",
    ),
    "a prompt of megabytes": ({"content-type": "application/json"}, b'{"prompt":"' + b"x" * (1 << 22) + b'"}'),
    "picture not UTF-8": ({"content-type": "application/json"}, b'{"prompt":"x","image":"\xff"}'),
    "bad escape": ({"content-type": "application/json"}, b'{"prompt":"x","image":"\\q"}'),
    "escapes in base64": (
        {"content-type": "application/json"},
        b'{"prompt":"x","image":"data:image/png;base64,\\ud800"}',
    ),
}


def test_a_broken_body_goes_nowhere(stand: Weighbridge, key: str) -> None:
    with seeing(stand) as seen, httpx2.Client(base_url=stand.base_url, headers={"x-api-key": key}) as http:
        for what, (headers, body) in BROKEN.items():
            answer = http.post("/v1/images/edits", content=body, headers=headers)
            assert answer.status_code == 400, (what, answer.status_code, answer.text)
            assert answer.json()["error"]["type"] == "invalid_request_error", what
    assert (seen.requests, seen.records) == ([], [])


def test_a_form_half_sent_goes_nowhere(stand: Weighbridge, key: str) -> None:
    """Its client leaves, and nothing is left of it."""
    head = f"POST /v1/images/edits HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-length: 100000\r\n"
    with seeing(stand) as seen:
        with connect(stand.base_url) as connection:
            connection.sendall(f"{head}content-type: multipart/form-data; boundary=b\r\n\r\n".encode() + PART)
        until(lambda: "in_flight_requests 0" in httpx2.get(f"{stand.admin_url}/metrics").text, "it is over")
    assert (seen.requests, seen.records) == ([], [])


def test_variations_say_what_to_use(stand: Weighbridge, sdk: openai.OpenAI) -> None:
    with (
        seeing(stand) as seen,
        pytest.warns(DeprecationWarning, match="deprecated"),
        pytest.raises(openai.NotFoundError, match="/v1/images/edits"),
    ):
        sdk.images.create_variation(image=PNG)
    assert seen.requests == []


def test_the_app_failed_on_none_of_these(stand: Weighbridge) -> None:
    """It stands last: nothing above ended in an error that nobody had foreseen."""
    assert "The app failed" not in Path(stand.folder, "log").read_text()
