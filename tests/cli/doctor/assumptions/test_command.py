"""`weighbridge doctor --assumptions` as typed: before the emulator, before its contrary, and where it may not call."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from proxy.billing.assumptions import ASSUMPTIONS
from proxy.billing.records import from_usd
from proxy.cli.doctor.assumptions.trials import TRIALS
from tests.cli.conftest import Weighbridge
from tests.cli.doctor.assumptions.contrary import CALLS, CONTRARY, LISTED, http, upstream
from tests.cli.doctor.test_command import configured

SECRET = "secret-of-no-known-shape"
ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def emulator() -> Iterator[str]:
    """`weighbridge emulator`, a process of its own."""
    command = [sys.executable, "-m", "proxy", "emulator", "--port", "0", "--json", "--key", SECRET]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["base_url"]
        finally:
            process.kill()


@pytest.fixture(autouse=True)
def _key(weighbridge: Weighbridge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", SECRET)


def kept(folder: Path) -> dict[str, str]:
    """Each file of the one run that was kept."""
    (run,) = (folder / "weighbridge-data" / "assumptions").iterdir()
    assert run.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in run.iterdir()} == {0o600}
    return {file.stem: file.read_text() for file in run.iterdir()}


def test_before_the_emulator_whatever_can_be_tried_holds_and_costs_what_was_billed_there(
    weighbridge: Weighbridge, emulator: str, tmp_path: Path
) -> None:
    configured(tmp_path, emulator)
    httpx2.delete(f"{emulator}/emulator/account")
    result = weighbridge("doctor", "--assumptions", "--yes", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    verdicts = {one["name"]: one["verdict"] for one in told["assumptions"]}
    assert verdicts == {name: "held" if name in TRIALS else "untried" for name in ASSUMPTIONS}
    billed = httpx2.get(f"{emulator}/emulator/account").json()
    assert len(billed["entries"]) == sum(call["cost_usd"] is not None for call in told["calls"]) == len(CALLS) - 3
    for call in told["calls"]:
        assert from_usd(call["cost_usd"] or "0") <= from_usd(call["at_most_usd"]), call["call"]
    assert told["cost_usd"] == "0.118780325", "three pictures of 400, 400 and 1680 tokens at $30, a search at $0.035 …"
    files = kept(tmp_path)
    assert files.keys() == {*CALLS, "verdicts"}
    assert json.loads(files["verdicts"]) == told
    assert json.loads(files["image"])["answered"][0]["usageMetadata"]["candidatesTokensDetails"][0]["tokenCount"] == 400
    assert not any(SECRET in text for text in (*files.values(), result.output))


def test_before_its_contrary_each_fails_and_says_what_that_means_and_what_to_do(
    weighbridge: Weighbridge, tmp_path: Path
) -> None:
    with upstream(lambda name: http(CONTRARY[name])) as script:
        configured(tmp_path, script.base_url)
        result = weighbridge("doctor", "--assumptions", "--yes")
    assert result.exit_code == 1
    told = json.loads(kept(tmp_path)["verdicts"])
    assert [one["name"] for one in told["assumptions"] if one["name"] in TRIALS and one["verdict"] != "failed"] == []
    lines = result.stdout.splitlines()
    for name in TRIALS:
        at = next(number for number, line in enumerate(lines) if line.startswith(f"failed   {name}: "))
        told_of_it = " ".join(line.strip() for line in lines[at : at + 12])
        assert f"assumed: {ASSUMPTIONS[name].says}" in told_of_it
        assert f"on the bill: {ASSUMPTIONS[name].bill}" in told_of_it
        assert f"→ {TRIALS[name].do}" in told_of_it


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_unasked_it_calls_nothing_and_says_what_it_would_cost(
    weighbridge: Weighbridge, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    with upstream(lambda name: http(CONTRARY[name])) as script:
        configured(tmp_path, script.base_url)
        result = weighbridge("doctor", "--assumptions", *flags)
    assert (result.exit_code, script.received) == (1, [])
    assert "makes 13 calls with your own key, for $0.3305828 at most" in result.stderr
    assert ("--json asks nothing" if flags else "no terminal to ask at") in result.stderr
    assert not (tmp_path / "weighbridge-data").exists()


@pytest.mark.parametrize(("typed", "calls"), [("n", 0), ("y", len(CALLS))])
def test_at_a_terminal_it_says_what_it_will_cost_and_asks(
    weighbridge: Weighbridge, tmp_path: Path, typed: str, calls: int
) -> None:
    with upstream(lambda name: http(CONTRARY[name])) as script:
        configured(tmp_path, script.base_url, f'[storage]\ndata_dir = "{tmp_path}/weighbridge-data"\n')
        shown = at_terminal(tmp_path, typed)
    asked, _, _ = shown.partition("Make these calls?")
    assert "$0.3305828 at most in all" in asked
    assert all(f"{call.name} " in asked and call.model in asked for call in CALLS.values())
    assert sum(request.method == b"POST" for request in script.received) == calls
    assert ("Nothing was called." in shown) is not bool(calls)
    assert (tmp_path / "weighbridge-data").exists() is bool(calls)


def test_with_json_it_asks_nothing_at_a_terminal_either(weighbridge: Weighbridge, tmp_path: Path) -> None:
    with upstream(lambda name: http(CONTRARY[name])) as script:
        configured(tmp_path, script.base_url)
        assert at_terminal(tmp_path, "y", "--json") == ""
    assert script.received == []


def at_terminal(folder: Path, typed: str, *flags: str) -> str:
    """What the command shows at a terminal where `typed` is the answer."""
    ours, theirs = pty.openpty()
    asked = ["doctor", "--assumptions", *flags, "--config", str(folder / "weighbridge.toml")]
    command = [sys.executable, "-m", "proxy", *asked]
    os.write(ours, f"{typed}\n".encode())
    done = subprocess.run(command, stdin=theirs, stdout=subprocess.PIPE, text=True, timeout=60, cwd=ROOT)
    os.close(ours)
    os.close(theirs)
    return done.stdout


def test_a_key_that_is_refused_is_told_before_anything_is_asked_or_called(
    weighbridge: Weighbridge, tmp_path: Path
) -> None:
    error: dict[str, Any] = {"error": {"code": 400, "message": f"API key {SECRET} not valid.", "details": []}}
    with upstream(lambda name: http(CONTRARY[name]), error) as script:
        configured(tmp_path, script.base_url)
        result = weighbridge("doctor", "--assumptions", "--yes")
    assert (result.exit_code, len(script.received)) == (1, 1)
    assert "not valid" in result.stderr
    assert "To do: " in result.stderr
    assert SECRET not in result.output
    assert not (tmp_path / "weighbridge-data").exists()


def test_where_nothing_is_answered_nothing_is_told_of_and_that_is_no_success(
    weighbridge: Weighbridge, tmp_path: Path
) -> None:
    """Errors that repeat the key and the project's number are neither shown nor kept with them."""
    error: dict[str, Any] = {"error": {"code": 403, "message": f"{SECRET} of projects/123456789012", "details": []}}
    with upstream(lambda name: http(error, 403)) as script:
        configured(tmp_path, script.base_url)
        result = weighbridge("doctor", "--assumptions", "--yes")
    assert result.exit_code == 1
    assert "text told nothing: 403" in result.stdout
    files = kept(tmp_path)
    verdicts = {one["verdict"] for one in json.loads(files["verdicts"])["assumptions"]}
    assert verdicts == {"unknown", "untried"}
    assert not any(secret in text for text in (*files.values(), result.output) for secret in (SECRET, "123456789012"))


def test_models_that_are_not_offered_are_not_called_and_the_rest_is_tried(
    weighbridge: Weighbridge, tmp_path: Path
) -> None:
    listed = {"models": [model for model in LISTED["models"] if "banana" not in model["name"]]}
    with upstream(lambda name: http(CONTRARY[name]), listed) as script:
        configured(tmp_path, script.base_url)
        told = json.loads(weighbridge("doctor", "--assumptions", "--yes", "--json").stdout)
    assert not any(b"banana" in request.target for request in script.received)
    problems = {call["call"]: call["problem"] for call in told["calls"]}
    assert problems["image"] == "the upstream doesn't offer gemini-nano-banana-2.1"
    assert problems["text"] is None
    verdicts = {one["name"]: one["verdict"] for one in told["assumptions"]}
    assert (verdicts["A-SIZES-FROM-PRICES"], verdicts["A-OUTPUT-IS-REST"]) == ("unknown", "failed")
    assert from_usd(told["at_most_usd"]) < 100_000_000


def test_yes_alone_is_told_what_it_goes_with(weighbridge: Weighbridge) -> None:
    result = weighbridge("doctor", "--yes")
    assert (result.exit_code, "--yes goes with --assumptions" in result.stderr) == (1, True)
