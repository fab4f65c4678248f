"""`weighbridge prices`, run as users run it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from proxy.cli.prices import app


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a configuration file nor an environment of whoever runs the tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WEIGHBRIDGE_CONFIG", raising=False)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def shown(*arguments: str) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_show_prints_the_rates_of_every_tier_images_by_size_source_and_assumptions() -> None:
    result = run("show", "gemini-3-pro-image", "--at", "2026-11-21")
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["USD", "PER", "MILLION", "STANDARD", "FLEX", "BATCH", "PRIORITY"] in lines
    assert ["output_image", "120", "60", "60", "216"] in lines
    assert ["4K", "2000", "0.24"] in lines
    assert result.stdout.startswith("gemini-3-pro-image, at 2026-11-21 08:00 UTC")
    assert "source: price book 2026-11-21" in result.stdout
    assert "A-IMAGE-REST-IS-TEXT: " in result.stdout
    assert "and none is added up. (of streamGenerateContent, openai.chat.completions)" in " ".join(
        result.stdout.split()
    )
    assert "next change: none announced" in result.stdout


def test_show_prints_the_next_change_with_what_changes() -> None:
    result = run("show", "gemini-4-argon", "--at", "2026-11-21")
    assert (
        "next change on 2026-12-01, at midnight in Los Angeles: "
        "input_text 2 → 4, cached_text 0.1 → 0.2, output_text 10 → 20\n" in result.stdout
    )


def test_show_json_has_decimal_strings() -> None:
    facts = shown("show", "models/gemini-flash-latest", "--at", "2026-11-21T12:00:00")
    assert facts["priced_as"] == "gemini-3.8-flash"
    assert facts["at"] == "2026-11-21T20:00:00.000000Z"
    assert facts["tiers"]["standard"] == {
        "input_text": "0.75",
        "cached_text": "0.075",
        "output_text": "3.75",
        "search_per_1000": "14",
        "maps_per_1000": "14",
        "cache_storage": "0.5",
    }
    assert facts["next_rates"]["output_text"] == "7.5"
    assert facts["fallbacks"]["input_document"] == "input_text"


def test_show_at_a_date_is_what_holds_from_that_midnight_on() -> None:
    assert shown("show", "gemini-4-argon", "--at", "2026-11-30")["tiers"]["standard"]["output_text"] == "10"
    assert shown("show", "gemini-4-argon", "--at", "2026-12-01")["tiers"]["standard"]["output_text"] == "20"


def test_show_has_the_long_rates_where_there_are_any() -> None:
    assert "PROMPT OVER 200,000" in run("show", "gemini-2.5-pro").stdout
    assert shown("show", "gemini-2.5-pro")["long_tiers"]["flex"]["input_text"] == "1.25"
    assert shown("show", "gemini-3.8-flash")["long_tiers"] is None


def test_show_says_when_the_rates_are_genai_prices() -> None:
    assert shown("show", "gemini-3-flash-preview")["source"].startswith("genai-prices ")


def test_show_of_a_model_without_a_price_fails_and_says_what_to_do() -> None:
    result = run("show", "gemini-3-pro-imag")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "Did you mean gemini-3-pro-image? Give it one with [[prices]]" in result.stderr


def test_list_names_every_model_once_with_its_rates() -> None:
    found = shown("list", "--at", "2026-11-21")
    names = [facts["model"] for facts in found]
    assert len(names) == len(set(names))
    assert {"gemini-nano-banana-2.1", "gemini-4-hydrogen", "gemini-embedding-2", "gemini-pro-latest"} <= set(names)
    result = run("list", "--at", "2026-11-21")
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["gemini-nano-banana-2.1", "1.5", "7.5", "30", "14"] in lines
    assert ["gemini-4-argon", "2", "0.1", "10", "14", "2026-12-01"] in lines


def test_the_configurations_rates_are_shown_as_such(tmp_path: Path) -> None:
    config = tmp_path / "other.toml"
    config.write_text('[[prices]]\nmodel = "gemini-3-pro-image"\noutput_image = 100.5\n', encoding="utf-8")
    facts = shown("show", "gemini-3-pro-image", "--config", str(config))
    assert facts["tiers"]["standard"]["output_image"] == "100.5"
    assert (facts["source"], facts["configured"]) == ("configuration", ["output_image"])
    assert "source: configuration (output_image)" in run("show", "gemini-3-pro-image", "--config", str(config)).stdout


def test_an_alias_is_shown_at_the_price_of_the_model_that_callers_get(tmp_path: Path) -> None:
    config = tmp_path / "aliases.toml"
    config.write_text('[[models]]\nmatch = "ours-*"\nuse = "gemini-3-pro-image"\n[[models]]\nmatch="x"\nuse="y"\n')
    facts = shown("show", "models/ours-1", "--config", str(config))
    assert (facts["model_asked"], facts["model"], facts["priced_as"]) == ("ours-1", *["gemini-3-pro-image"] * 2)
    told = run("show", "ours-1", "--config", str(config)).stdout
    assert told.startswith("who asks for ours-1 gets gemini-3-pro-image ([[models]]), and pays for that:\n\ngemini-3-")
    assert "who asks for gemini" not in run("show", "gemini-3-pro-image", "--config", str(config)).stdout
    assert "y, which stands in for x ([[models]]), has no price" in run("show", "x", "--config", str(config)).stderr


def test_a_configuration_that_can_not_be_read_is_told_in_a_sentence(tmp_path: Path) -> None:
    config = tmp_path / "bad.toml"
    config.write_text('[[prices]]\nmodel = "gemini-3-pro-image"\noutput_image = -1\n', encoding="utf-8")
    result = run("list", "--config", str(config))
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr
