"""`weighbridge image --check`, as typed: against a Weighbridge, what speaks as Google does, and neither."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from proxy.emulator.app import DEFAULT_KEY
from tests.cli.conftest import Weighbridge as Command
from tests.scripted import says, scripted
from tests.stand import Weighbridge, weighbridge

MODEL = "gemini-nano-banana-2.1"
DRAWS = f"{MODEL} or gemini-3.1-flash-image or gemini-3.1-flash-lite-image or gemini-3-pro-image"


class Told(NamedTuple):
    code: int
    found: list[tuple[str, str, str, str]]
    """Check, verdict, what, do."""

    def of(self, check: str) -> list[tuple[str, str, str]]:
        return [finding[1:] for finding in self.found if finding[0] == check]

    def problem(self) -> tuple[str, str, str]:
        """The only one: its check, what it is, and what to do."""
        assert self.code == 1
        [(check, _, what, do)] = [finding for finding in self.found if finding[1] == "problem"]
        return check, what, do


@pytest.fixture(scope="module")
def limited(upstream: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weighbridge]:
    """A Weighbridge with an alias, a project with limits and one for a certain model."""
    aliases = [{"match": "ours", "use": "gemini-3-pro-image"}]
    with weighbridge(tmp_path_factory.mktemp("check"), upstream, {"models": aliases}) as running:
        running.run("project", "create", "alice", "--rpm", "60", "--ipm", "2", "--budget", "10")
        running.run("project", "create", "bob", "--models", "gemini-3-pro-*")
        yield running


@pytest.fixture(scope="module")
def key(limited: Weighbridge) -> str:
    return limited.key()


def checked(command: Command, base_url: str, key: str, *more: str) -> Told:
    done = command("image", "--check", "--base-url", base_url, "--key", key, "--json", *more)
    assert done.stderr == "", done.stderr
    told = json.loads(done.stdout)
    assert told["ok"] == (done.exit_code == 0)
    return Told(done.exit_code, [tuple(finding.values()) for finding in told["findings"]])


def test_where_all_is_well_it_says_what_a_picture_costs_and_what_is_left_and_costs_nothing(
    weighbridge: Command, limited: Weighbridge, key: str
) -> None:
    told = checked(weighbridge, limited.base_url, key)
    assert told.code == 0
    assert [check for check, *_ in told.found] == ["base URL", "key", "model", "upstream", "left", "left", "left"]
    assert {verdict for _, verdict, *_ in told.found} == {"ok"}
    assert told.of("base URL") == [("ok", f"{limited.base_url} is a Weighbridge", "")]
    assert told.of("key") == [("ok", "valid, of project alice", "")]
    assert told.of("model") == [("ok", f"{MODEL} is allowed, $0.0336 a picture of 1K, and the input", "")]
    left = {what for _, what, _ in told.of("left")}
    assert left == {
        "60 of 60 calls a minute (project)",
        "2 of 2 images a minute (project)",
        "$10 of $10 a month (project)",
    }
    assert limited.records() == []
    shown = weighbridge("image", "--check", "--base-url", limited.base_url, "--key", key)
    assert shown.stdout.endswith("\n\n7 ok\n")


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        (("--model", "gemini-77"), ("model", "gemini-77 is no model that this proxy serves", f"--model {DRAWS}")),
        (("--model", "gemini-3.8-flash"), ("model", "gemini-3.8-flash makes no pictures", f"--model {DRAWS}")),
        (
            ("--model", "gemini-3-pro-image-preview"),
            ("model", "gemini-3-pro-image-preview was shut down on 2026-06-25", "--model gemini-3-pro-image"),
        ),
        (("--size", "8K"), ("size", "8K is none of this model's", "--size 512 or 1K or 2K or 4K")),
        (("--aspect", "7:4"), ("aspect", "7:4 is none of this model's", "--aspect 1:1 or 2:3 or")),
        (("--n", "3"), ("left", "2 of 2 images a minute (project)", "wait a minute, or --n 2")),
        (("--key", "AIza" + "x" * 35), ("key", "INVALID_ARGUMENT: API key not valid", "A key of Google's came, and")),
        (("--key", "wb_" + "0" * 37), ("key", "it was cut short, or mistyped: its checksum is wrong", "copy it anew")),
    ],
)
def test_what_is_wrong_is_said_with_what_to_type(
    weighbridge: Command, limited: Weighbridge, key: str, more: tuple[str, ...], problem: tuple[str, str, str]
) -> None:
    check, what, do = checked(weighbridge, limited.base_url, key, *more).problem()
    assert (check, what[: len(problem[1])], do[: len(problem[2])]) == problem


def test_a_key_that_may_not_use_the_model_is_told_which_it_may(weighbridge: Command, limited: Weighbridge) -> None:
    check, what, do = checked(weighbridge, limited.base_url, limited.key("bob")).problem()
    assert (check, do) == ("model", "--model gemini-3-pro-image or ours")
    assert what.startswith(f"This project may not use the model '{MODEL}', only gemini-3-pro-*.")


def test_aliases_and_in_openais_shape_retired_ids_are_fine_and_the_nearest_ratio_is_taken(
    weighbridge: Command, limited: Weighbridge, key: str
) -> None:
    told = checked(weighbridge, limited.base_url, key, "--model", "ours", "--size", "4K")
    assert told.of("model") == [
        ("ok", "ours is allowed: gemini-3-pro-image answers, $0.24 a picture of 4K, and the input", "")
    ]
    more = "--via", "openai", "--model", "gemini-3-pro-image-preview", "--aspect", "7:4"
    told = checked(weighbridge, limited.base_url, key, *more)
    assert (told.code, told.of("model")[0][0]) == (0, "ok")
    assert told.of("aspect")[0][:2] == ("warning", "7:4 is none of this model's: the nearest is taken in its place")


def test_a_pasted_version_is_taken_for_what_it_is(weighbridge: Command, limited: Weighbridge, key: str) -> None:
    told = checked(weighbridge, f"{limited.base_url}/v1beta", key)
    assert told.code == 0
    assert told.found[0][1:3] == ("warning", f"the base URL is taken without /v1beta: {limited.base_url}")


def test_the_operators_door_and_a_wrong_scheme_are_told(weighbridge: Command, limited: Weighbridge, key: str) -> None:
    _, what, do = checked(weighbridge, limited.admin_url, key).problem()
    assert (what, do[:21]) == (
        f"{limited.admin_url} is a Weighbridge's control door, which is for operators",
        "give the gateway door",
    )
    _, what, do = checked(weighbridge, limited.base_url.replace("http:", "https:"), key).problem()
    assert do == f"what listens there speaks no TLS. Write it with http: {limited.base_url}"
    _, what, do = checked(weighbridge, "http://127.0.0.1:1", key).problem()
    assert what.startswith("http://127.0.0.1:1 can't be reached (")
    assert do.startswith("nothing listens there.")


def test_what_speaks_as_google_does_is_asked_for_the_model(weighbridge: Command, upstream: str) -> None:
    """The stand-in for Google takes the place of Google itself, which has no other ways."""
    told = checked(weighbridge, upstream, DEFAULT_KEY)
    assert (told.code, told.of("key"), told.of("model")[0][0]) == (0, [("ok", "valid", "")], "ok")
    check, _, do = checked(weighbridge, upstream, "wb_" + "0" * 38).problem()
    assert (check, do[:19]) == ("key", "copy the key anew; ")
    check, _, do = checked(weighbridge, upstream, DEFAULT_KEY, "--model", "gemini-77").problem()
    assert (check, do.split()[:2]) == ("model", ["--model", MODEL])
    assert checked(weighbridge, upstream, DEFAULT_KEY, "--via", "openai").problem()[2] == "--via native"
    assert checked(weighbridge, upstream, DEFAULT_KEY, "--size", "8K").problem()[0] == "size"


@pytest.mark.parametrize(
    ("answer", "what", "do"),
    [
        (
            b"HTTP/1.1 200 X\r\nContent-Length: 6\r\n\r\n<html>",
            "answered 200, and not as the Gemini API does",
            "give a",
        ),
        (b"HTTP/1.1 404 X\r\nContent-Length: 2\r\n\r\n{}", "answered 404, and not as the Gemini API does", "give a"),
        (
            b"HTTP/1.1 308 X\r\nLocation: https://other/\r\nContent-Length: 0\r\n\r\n",
            "it sends to https://other/",
            "give that one's base URL",
        ),
    ],
)
def test_another_server_is_told_from_one_that_draws(weighbridge: Command, answer: bytes, what: str, do: str) -> None:
    with scripted(says(answer)) as other:
        check, told, next_step = checked(weighbridge, other.base_url, "wb_" + "0" * 38).problem()
    assert (check, what in told, next_step.startswith(do)) == ("base URL", True, True)
    assert not any(b"x-goog-api-key" in dict(request.headers) for request in other.received[:1])
