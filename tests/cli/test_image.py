"""`weighbridge image`, as typed, against a running server."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import httpx2
import pytest
from PIL import Image
from typer.testing import Result

from proxy.billing.records import to_usd
from tests.cli.conftest import Weighbridge as Command
from tests.scripted import says, scripted
from tests.stand import Weighbridge

PNG = "picture.png"


@pytest.fixture(scope="module")
def key(stand: Weighbridge) -> str:
    return stand.key()


def draw(command: Command, stand: Weighbridge, key: str, prompt: str, *more: str) -> Result:
    return command("image", prompt, "-o", PNG, "--base-url", stand.base_url, "--key", key, *more)


def test_a_picture_is_saved_and_its_cost_told_as_the_ledger_has_it(
    weighbridge: Command, stand: Weighbridge, key: str
) -> None:
    done = draw(weighbridge, stand, key, "a red lorry")
    assert done.exit_code == 0, done.output
    cost = stand.records()[-1].cost_usd
    assert cost
    with Image.open(PNG) as picture:
        size = f"{picture.format}, {picture.width} x {picture.height}"
    assert done.stdout.startswith(f"{PNG}: {size}, {Path(PNG).stat().st_size / 1000:,.0f} kB; gemini-nano-banana-2.1, ")
    assert done.stdout.endswith(f" s, ${to_usd(cost)}\n")


def test_json_tells_programs_the_same_and_size_and_aspect_are_asked_for(
    weighbridge: Command, stand: Weighbridge, key: str
) -> None:
    more = ("--json", "--model", "gemini-3-pro-image", "--size", "2K", "--aspect", "16:9")
    told = json.loads(draw(weighbridge, stand, key, "[[lead-text=on]] a lorry", *more).stdout)
    record = stand.records()[-1]
    with Image.open(PNG) as picture:
        assert (told["width"], told["height"], told["format"]) == (picture.width, picture.height, picture.format)
        assert picture.width > 2 * 1024 > picture.height
    assert (told["file"], told["bytes"], told["model"]) == (PNG, Path(PNG).stat().st_size, "gemini-3-pro-image")
    assert (told["request_id"], told["cost_usd"]) == (record.request_id, to_usd(record.cost_usd or 0))


def test_reference_pictures_go_up_in_their_order_behind_the_text(
    weighbridge: Command, stand: Weighbridge, key: str, upstream: str
) -> None:
    for name, colour in (("one.png", "red"), ("two.jpg", "blue")):
        Image.new("RGB", (8, 8), colour).save(name)
    assert draw(weighbridge, stand, key, "both", "--ref", "one.png", "--ref", "two.jpg").exit_code == 0
    sent = httpx2.get(f"{upstream}/emulator/requests").json()["entries"][-1]["body_base64"]
    text, *references = json.loads(base64.b64decode(sent))["contents"][0]["parts"]
    assert text == {"text": "both"}
    assert [part["inlineData"]["mimeType"] for part in references] == ["image/png", "image/jpeg"]
    files = [Path(name).read_bytes() for name in ("one.png", "two.jpg")]
    assert [base64.b64decode(part["inlineData"]["data"]) for part in references] == files


@pytest.mark.parametrize(
    ("prompt", "more", "says"),
    [
        ("[[refuse=IMAGE_SAFETY]]", (), "the answer holds no picture (IMAGE_SAFETY): word it differently"),
        ("[[block=SAFETY]]", (), "the answer holds no picture (SAFETY): word it differently"),
        ("[[images=0]]", (), "the answer holds no picture (STOP): is it an image model?"),
        ("x", ("--model", "gemini-3.8-flash"), "INVALID_ARGUMENT: The requested combination of response modalities"),
        ("[[url]]", (), "what stands where the picture should be is no base64: "),
        ("[[status=429]]", (), "RESOURCE_EXHAUSTED: "),
        ("x", ("--size", "17K"), "INVALID_ARGUMENT: "),
        ("x", ("--model", "no-such-model"), "NOT_FOUND: "),
        ("x", ("--key", "wb_" + "0" * 38), "INVALID_ARGUMENT: API key not valid. Please pass a valid API key."),
        ("x", ("--key", ""), "no key: give --key, or set WEIGHBRIDGE_KEY."),
        ("x", ("--key", "wb_…"), "what was given as key can't be one"),
        ("x", ("--base-url", "http://127.0.0.1:1"), "http://127.0.0.1:1 can't be reached ("),
        ("x", ("--base-url", "nonsense"), "nonsense can't be reached ("),
    ],
)
def test_why_there_is_no_picture_is_told_in_a_sentence(
    weighbridge: Command, stand: Weighbridge, key: str, prompt: str, more: tuple[str, ...], says: str
) -> None:
    done = draw(weighbridge, stand, key, prompt, *more)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {says}")
    assert "Traceback" not in done.stderr
    assert not Path(PNG).exists()


@pytest.mark.parametrize("body", ["<html>", "[]", "{}", '"no"', '{"error": "down"}', '{"error": {"status": 1}}'])
@pytest.mark.parametrize("status", [200, 500])
def test_a_server_that_is_no_gemini_api_is_told_from_one_that_is(
    weighbridge: Command, key: str, status: int, body: str
) -> None:
    answer = b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body.encode())
    with scripted(says(answer)) as other:
        done = weighbridge("image", "x", "-o", PNG, "--base-url", other.base_url, "--key", key)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
    assert done.stderr.startswith(f"error: {other.base_url} answered")


@pytest.mark.parametrize("place", ["missing/picture.png", "."])
def test_a_place_that_cannot_be_written_is_told_before_the_picture_is_paid_for(
    weighbridge: Command, stand: Weighbridge, key: str, place: str
) -> None:
    before = stand.records()
    done = weighbridge("image", "x", "-o", place, "--base-url", stand.base_url, "--key", key)
    assert (done.exit_code, done.stderr) == (
        1,
        f"error: {place} can't be written: is its folder there, and may you write in it?\n",
    )
    assert stand.records() == before
