"""`weighbridge image`, as typed, against a running server."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import pty
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx2
import pytest
from PIL import Image
from typer.testing import Result

from proxy.billing.records import to_usd
from proxy.emulator.app import DEFAULT_KEY
from tests.cli.conftest import Weighbridge as Command
from tests.pages import ROOT
from tests.scripted import listening, says, scripted
from tests.stand import Weighbridge
from tests.stand import weighbridge as serving

PNG = "picture.png"


@pytest.fixture(scope="module")
def key(stand: Weighbridge) -> str:
    return stand.key()


@pytest.fixture(scope="module")
def few(stand: Weighbridge) -> str:
    """A key of a project that may have two pictures a minute."""
    stand.run("project", "create", "few", "--ipm", "2")
    return stand.key("few")


@pytest.fixture(scope="module")
def pair(stand: Weighbridge) -> str:
    """Another one."""
    stand.run("project", "create", "pair", "--ipm", "2")
    return stand.key("pair")


@pytest.fixture(scope="module")
def dear(upstream: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weighbridge]:
    """A Weighbridge with a price of its own."""
    own = [{"model": "gemini-nano-banana-2.1", "input_text": 900, "output_text": 900, "output_image": 900}]
    with serving(tmp_path_factory.mktemp("dear"), upstream, {"prices": own}) as running:
        yield running


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


def test_several_pictures_are_made_side_by_side_and_each_is_a_call_on_the_bill(
    weighbridge: Command, stand: Weighbridge, key: str
) -> None:
    before = len(stand.records())
    told = json.loads(draw(weighbridge, stand, key, "a lorry", "--n", "3", "--json").stdout)
    records = stand.records()[before:]
    assert [one["file"] for one in told["pictures"]] == ["picture-1.png", "picture-2.png", "picture-3.png"]
    assert {one["request_id"] for one in told["pictures"]} == {record.request_id for record in records}
    assert told["cost_usd"] == to_usd(sum(record.cost_usd or 0 for record in records))
    assert told["failed"] == []
    done = draw(weighbridge, stand, key, "a lorry", "--n", "2")
    assert [line.split(":")[0] for line in done.stdout.splitlines()[:2]] == ["picture-1.png", "picture-2.png"]
    assert done.stdout.splitlines()[2].startswith("2 of 2 pictures, ")


def test_of_several_those_that_came_are_kept_and_what_is_missing_is_said(
    weighbridge: Command, stand: Weighbridge, few: str
) -> None:
    done = draw(weighbridge, stand, few, "a lorry", "--n", "3")
    assert done.exit_code == 1
    assert len(list(Path().glob("picture-*.png"))) == 2
    assert done.stdout.splitlines()[2].startswith("2 of 3 pictures, ")
    [error] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert " of 3: RESOURCE_EXHAUSTED: Project few is limited to 2 images per minute (ipm)" in error
    assert error.endswith("What to do: `weighbridge image --check` says what is left")


def test_an_ending_that_says_another_format_is_told(weighbridge: Command, stand: Weighbridge, key: str) -> None:
    told = draw(weighbridge, stand, key, "a lorry")
    assert told.stderr == "note: picture.png holds a JPEG, whatever its ending says: mv picture.png picture.jpg\n"
    done = weighbridge("image", "a lorry", "-o", "picture.jpg", "--base-url", stand.base_url, "--key", key)
    assert done.stderr == ""


def test_a_base_url_with_a_version_behind_it_does_and_is_told(
    weighbridge: Command, stand: Weighbridge, key: str
) -> None:
    done = weighbridge("image", "x", "-o", "p.jpg", "--base-url", f"{stand.base_url}/v1beta/", "--key", key)
    assert (done.exit_code, done.stderr) == (0, f"note: the base URL is taken without /v1beta: {stand.base_url}\n")


def test_google_itself_draws_with_a_key_of_its_own(weighbridge: Command, upstream: str) -> None:
    """The stand-in for Google takes its place. What it costs is worked out by the price book."""
    done = weighbridge("image", "a lorry", "-o", "p.jpg", "--base-url", upstream, "--key", DEFAULT_KEY, "--json")
    told = json.loads(done.stdout)
    assert (told["request_id"], told["model"]) == (None, "gemini-nano-banana-2.1")
    assert float(told["cost_usd"]) > 0.0336


def test_the_cost_is_the_ledgers_not_the_price_books(weighbridge: Command, dear: Weighbridge) -> None:
    told = json.loads(draw(weighbridge, dear, dear.key(), "a lorry", "--json").stdout)
    assert told["cost_usd"] == to_usd(dear.records()[-1].cost_usd or 0)
    assert float(told["cost_usd"]) > 1


def test_openais_shape_is_one_request_for_all_and_the_ledger_tells_its_cost_and_who_drew(
    weighbridge: Command, stand: Weighbridge, key: str
) -> None:
    before = len(stand.records())
    more = "--via", "openai", "--model", "gemini-3-pro-image-preview", "--aspect", "7:4"
    done = draw(weighbridge, stand, key, "a lorry", *more, "--n", "2", "--json")
    assert (done.exit_code, done.stderr) == (0, ""), done.stderr
    told, records = json.loads(done.stdout), stand.records()[before:]
    assert {record.request_id for record in records} == {one["request_id"] for one in told["pictures"]}
    assert (len(records), told["cost_usd"]) == (2, to_usd(sum(record.cost_usd or 0 for record in records)))
    assert {one["model"] for one in told["pictures"]} == {"gemini-3-pro-image"}
    assert "16:9, the nearest, was asked for" in told["pictures"][0]["hint"]
    edited = draw(weighbridge, stand, key, "night", "--via", "openai", "--ref", "picture-1.png")
    assert edited.stdout.endswith(f" s, ${to_usd(stand.records()[-1].cost_usd or 0)}\n")
    shown = draw(weighbridge, stand, key, "a lorry", *more)
    assert shown.stderr.startswith("note: gemini-3-pro-image-preview was shut down on 2026-06-25: ")


def test_in_openais_shape_too_what_is_missing_is_said(weighbridge: Command, stand: Weighbridge, pair: str) -> None:
    done = draw(weighbridge, stand, pair, "a lorry", "--via", "openai", "--n", "3")
    assert (done.exit_code, len(list(Path().glob("picture-*.png")))) == (1, 2)
    assert done.stdout.splitlines()[2].startswith("2 of 3 pictures, ")
    assert "error: picture 3 of 3: rate_limit_exceeded: Project pair is limited to 2 images per minute" in done.stderr


@pytest.mark.parametrize(
    ("prompt", "more", "says"),
    [
        ("[[refuse=IMAGE_SAFETY]]", (), "moderation_blocked: The picture was refused (IMAGE_SAFETY): word the prompt"),
        (
            "x",
            ("--model", "gemini-3.8-flash"),
            "bad_request: gemini-3.8-flash makes no pictures.",
        ),
        ("x", ("--size", "17K"), "bad_request: size must be one of these: "),
        ("x", ("--key", "wb_" + "0" * 38), "invalid_api_key: API key not valid. Please pass a valid API key. What to"),
        ("[[status=404]]", (), "not_found: "),
    ],
)
def test_in_openais_shape_too_each_failure_is_a_sentence(
    weighbridge: Command, stand: Weighbridge, key: str, prompt: str, more: tuple[str, ...], says: str
) -> None:
    done = draw(weighbridge, stand, key, prompt, "--via", "openai", *more)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {says}")
    assert done.stderr.count("\n") == 1


def at_terminal(stand: Weighbridge, key: str, folder: Path, *more: str) -> tuple[str, str]:
    """What the command shows at a terminal of 60 columns; and what on standard error, which is a pipe."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
    command = [sys.executable, "-m", "proxy", "image", "a lorry", "-o", str(folder / "p.jpg"), *more]
    command += ["--base-url", stand.base_url, "--key", key]
    env = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
    env |= {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, env=env, cwd=ROOT) as done:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # EIO: nobody holds the other end any more
            while piece := os.read(ours, 65536):
                shown += piece
        assert done.stderr is not None
        errors = done.stderr.read()
    os.close(ours)
    assert done.returncode == 0, errors
    return shown.decode(), errors.decode()


def test_a_terminal_with_colours_shows_a_small_preview_and_a_pipe_no_progress(
    stand: Weighbridge, key: str, tmp_path: Path
) -> None:
    shown, errors = at_terminal(stand, key, tmp_path)
    *rows, line = shown.rstrip().split("\r\n")
    assert {row.count("\N{UPPER HALF BLOCK}") for row in rows} == {40}
    assert len(rows) == 20
    assert "\x1b[38;2;" in rows[0]
    assert "JPEG, 1024 x 1024" in line
    assert errors == ""


def test_who_wants_no_preview_gets_none(stand: Weighbridge, key: str, tmp_path: Path) -> None:
    assert "\N{UPPER HALF BLOCK}" not in at_terminal(stand, key, tmp_path, "--no-preview")[0]


def test_ctrl_c_ends_it_at_once_and_says_what_is_saved(key: str, tmp_path: Path) -> None:
    """With the progress on a terminal, which is taken away again."""
    over = threading.Event()

    def never(connection: socket.socket) -> None:
        with connection:
            over.wait(60)

    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "proxy", "image", "a lorry", "-o", str(tmp_path / "p.jpg"), "--key", key]
    env, shown = {**os.environ, "TERM": "xterm-256color"}, b""
    with listening(never) as url:
        # As a terminal starts it: what runs in the background is started with interrupts ignored, and passes that on.
        heeds = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        running = subprocess.Popen([*command, "--base-url", url], stderr=theirs, env=env, cwd=ROOT, preexec_fn=heeds)
        os.close(theirs)
        while b"0:00:01" not in shown:  # it counts the seconds
            shown += os.read(ours, 65536)
        running.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):
            while piece := os.read(ours, 65536):
                shown += piece
        code = running.wait(30)
        over.set()
    os.close(ours)
    assert code == 130
    assert b"gemini-nano-banana-2.1 draws a picture" in shown
    assert shown.endswith(b"stopped; nothing was saved. What is under way may be drawn, and billed, all the same.\r\n")
    assert b"Traceback" not in shown
    assert not (tmp_path / "p.jpg").exists()


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
        (" ", (), "say what is to be drawn: weighbridge image 'a red lorry' -o lorry.jpg"),
        ("x", ("--base-url", "https://generativelanguage.googleapis.com", "--via", "openai"), "the key is one of a"),
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
