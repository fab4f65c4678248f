"""Requests taken in and made into native bodies: JSON or form, pictures given or fetched, and nothing left held."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from proxy.errors import CallerErred, ProxyRefused, Reason, Refusal
from proxy.gateway.images.order import AT_ONCE, Order, Orders
from proxy.gateway.images.requests import ImageRequest
from proxy.gateway.images.sizes import MASKED, Shape
from proxy.gateway.intake import ClientGone, Intake, Receive
from tests.gateway.images.pictured import encoded, png, saved
from tests.gateway.images.test_forms import END, part

pytestmark = pytest.mark.anyio

PNG = encoded("PNG")
JPEG = encoded("JPEG")
MASK = saved(Image.new("LA", (64, 48)), "PNG")
FORM = b"multipart/form-data; boundary=b"
JSON = b"application/json"


@pytest.fixture(params=[64 << 20, 0], ids=["memory", "disk"])
def intake(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Intake]:
    """Holds nothing any more at the end."""
    made = Intake(tmp_path, limit=1 << 20, memory_bytes=request.param, disk_kept_free=0)
    yield made
    assert made.memory.taken == made.spool.taken == 0


def receiving(*pieces: bytes, whole: bool = True) -> Receive:
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    messages.append({"type": "http.request", "body": b""} if whole else {"type": "http.disconnect"})

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    return receive


async def take(
    intake: Intake, body: bytes | dict[str, Any], content_type: bytes = JSON, *, edits: bool = True
) -> Order:
    body = json.dumps(body).encode() if isinstance(body, dict) else body
    came = [(b"content-type", content_type), (b"content-length", b"%d" % len(body))]
    return await asyncio.wait_for(Orders(intake, None).take("shop", came, receiving(body), edits=edits), 30)


async def native(intake: Intake, order: Order, fetcher: Any = None, shape: Shape = Shape(None, None)) -> Any:  # noqa: B008
    with await Orders(intake, fetcher).native_body(order, "shop", shape) as body:
        assert body.length == len(body.view())
        return json.loads(bytes(body.view()))


def data_url(content: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def inline(kind: str, content: bytes) -> dict[str, Any]:
    return {"inlineData": {"mimeType": kind, "data": base64.b64encode(content).decode()}}


@pytest.mark.parametrize("length", [10, AT_ONCE + 1])
async def test_a_prompt_alone_becomes_a_body(intake: Intake, length: int) -> None:
    """A long body is read in a thread, to the same end: here its length is in what nothing knows."""
    order = await take(intake, {"prompt": "a lorry", "n": 2, "novel": "x" * length}, edits=False)
    assert order == Order(ImageRequest("a lorry", n=2, unknown=("novel",)), [], None)
    body = await native(intake, order, shape=Shape("1:1", "2K"))
    assert body["contents"][0]["parts"] == [{"text": "a lorry"}]
    assert body["generationConfig"]["imageConfig"] == {"aspectRatio": "1:1", "imageSize": "2K"}


@pytest.mark.parametrize("form", [True, False])
async def test_pictures_go_up_byte_for_byte_in_order_under_the_type_that_they_are_of(
    intake: Intake, form: bool
) -> None:
    if form:
        parts = part("prompt", b"p"), part("image[]", PNG, filename="a.jpg"), part("image[]", JPEG, filename="b.png")
        order = await take(intake, b"".join(parts) + END, FORM)
    else:
        urls = [data_url(PNG, "image/webp"), data_url(JPEG)]
        written = json.dumps({"prompt": "p", "images": [{"image_url": url} for url in urls]}).replace("/", "\\/")
        order = await take(intake, written.encode())
    body = await native(intake, order)
    assert body["contents"][0]["parts"] == [{"text": "p"}, inline("image/png", PNG), inline("image/jpeg", JPEG)]


async def test_a_mask_goes_up_last_as_black_and_white_with_what_it_means(intake: Intake) -> None:
    form = part("prompt", b"p") + part("mask", MASK, filename="m") + part("image", PNG, filename="a") + END
    for order in (
        await take(intake, form, FORM),
        await take(intake, {"prompt": "p", "mask": {"image_url": data_url(MASK)}, "image": data_url(PNG)}),
    ):
        _, first, mask, said = (await native(intake, order))["contents"][0]["parts"]
        assert first == inline("image/png", PNG)
        assert mask["inlineData"]["mimeType"] == "image/png"
        assert mask != inline("image/png", MASK)
        assert said == {"text": MASKED}


GIVEN = part("image", PNG, filename="a")


@pytest.mark.parametrize(
    ("body", "content_type", "edits", "param"),
    [
        ({"prompt": "p"}, JSON, True, "images"),
        ({"prompt": "p", "images": [data_url(PNG)] * 17}, JSON, True, "images"),
        ({"prompt": "p", "images": [data_url(PNG)] * 9, "image": [data_url(PNG)] * 8}, JSON, True, "images"),
        ({"prompt": "p", "image": data_url(PNG)}, JSON, False, "image"),
        ({"prompt": "p", "mask": data_url(MASK)}, JSON, False, "image"),
        ({"prompt": "", "image": data_url(PNG)}, JSON, True, "prompt"),
        (part("prompt", b"p") + END, FORM, True, "image"),
        (part("prompt", b"p") + GIVEN * 17 + END, FORM, True, "image"),
        (part("prompt", b"p") + GIVEN + part("mask", MASK, filename="m") * 2 + END, FORM, True, "mask"),
        (part("prompt", b"p") + GIVEN + END, FORM, False, "image"),
        (part("n", b"11") + part("prompt", b"p") + GIVEN + END, FORM, True, "n"),
        (part("generationConfig", b"{}") + GIVEN + END, FORM, True, "generationConfig"),
        (part("prompt", b"p") + GIVEN, FORM, True, ""),
        (part("prompt", b"p") * 10_000 + END, FORM, True, ""),
        (part("prompt", b"p") + GIVEN + END, b"multipart/form-data", True, ""),
        (part("prompt", b"p") + GIVEN + END, JSON, True, ""),
        (b'{"prompt":"p","image":"\xff"}', JSON, True, ""),
        (b"prompt=p", b"application/x-www-form-urlencoded", False, ""),
    ],
)
async def test_what_is_wrong_is_refused_by_its_name_and_nothing_stays_held(
    intake: Intake, body: bytes | dict[str, Any], content_type: bytes, edits: bool, param: str
) -> None:
    with pytest.raises(CallerErred) as refused:
        await take(intake, body, content_type, edits=edits)
    assert (refused.value.reason, refused.value.param) == (Reason.BAD_REQUEST, param)


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"image": data_url(PNG[:-20])}, "image"),
        ({"image": data_url(b"GIF89a")}, "image"),
        ({"image": "data:image/png;base64,????"}, "image"),
        ({"images": [data_url(PNG), data_url(png(30_000, 30_000, data=b""))]}, "images"),
        ({"image": data_url(PNG), "mask": data_url(encoded("PNG", (9, 9), "LA"))}, "mask"),
        ({"image": data_url(PNG), "mask": data_url(PNG)}, "mask"),
        ({"image": data_url(PNG), "mask": "data:,"}, "mask"),
        ({"image": "https://pictures.example/a.png"}, "image"),
        ({"image": data_url(PNG), "mask": "https://pictures.example/a.png"}, "mask"),
    ],
)
async def test_a_picture_that_is_not_taken_is_refused_by_its_name(
    intake: Intake, given: dict[str, Any], param: str
) -> None:
    with pytest.raises(CallerErred) as refused:
        await native(intake, await take(intake, {"prompt": "p", **given}))
    assert refused.value.param == param


async def test_where_pictures_are_not_fetched_it_says_which_setting_would(intake: Intake) -> None:
    order = await take(intake, {"prompt": "p", "image": "https://pictures.example/a.png"})
    with pytest.raises(CallerErred, match=r"images\.fetch_urls is off"):
        await native(intake, order)


class Fetching:
    """Stands where a fetcher does: tests/gateway/images/test_fetch.py is about that."""

    def __init__(self, content: bytes | Refusal) -> None:
        self.asked: list[str] = []
        self._content = content

    async def fetch(self, url: str) -> tuple[bytes, str]:
        self.asked.append(url)
        if isinstance(self._content, Refusal):
            raise self._content
        return self._content, "text/html"


async def test_what_is_fetched_is_checked_as_what_is_given_and_stands_in_its_place(intake: Intake) -> None:
    order = await take(intake, {"prompt": "p", "images": [data_url(PNG), "https://a.example/b", data_url(PNG)]})
    fetching = Fetching(JPEG)
    parts = (await native(intake, order, fetching))["contents"][0]["parts"]
    assert parts[1:] == [inline("image/png", PNG), inline("image/jpeg", JPEG), inline("image/png", PNG)]
    assert fetching.asked == ["https://a.example/b"]
    for wrong in (b"<html>", CallerErred(Reason.BAD_REQUEST, "The host is private.")):
        with pytest.raises(CallerErred) as refused:
            await native(intake, order, Fetching(wrong))
        assert refused.value.param == "images"


async def test_a_client_that_leaves_in_the_midst_leaves_nothing_behind(intake: Intake) -> None:
    came = [(b"content-type", FORM), (b"transfer-encoding", b"chunked")]
    with pytest.raises(ClientGone):
        await Orders(intake, None).take("shop", came, receiving(GIVEN, GIVEN, whole=False), edits=True)


async def test_a_body_over_the_limit_is_refused(intake: Intake) -> None:
    with pytest.raises(CallerErred) as refused:
        await take(intake, {"prompt": "p", "novel": "x" * (1 << 20)})
    assert refused.value.reason is Reason.REQUEST_TOO_LARGE


async def test_where_there_is_no_room_for_the_native_body_none_is_left_taken(tmp_path: Path) -> None:
    order = await take(Intake(tmp_path, limit=1 << 20), {"prompt": "p", "image": data_url(PNG)})
    small = Intake(tmp_path, limit=1 << 20, memory_bytes=200, spool_bytes=200, disk_kept_free=0)
    with pytest.raises(ProxyRefused) as refused:
        await native(small, order)
    assert refused.value.reason is Reason.STORE_UNAVAILABLE
    assert small.memory.taken == small.spool.taken == 0
