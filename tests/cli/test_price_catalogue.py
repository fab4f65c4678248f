"""`weighbridge prices list --models`, as typed."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Weighbridge


def test_the_catalogue_has_a_picture_of_each_size_and_what_became_of_names(
    weighbridge: Weighbridge, tmp_path: Path
) -> None:
    config = tmp_path / "aliases.toml"
    config.write_text('[[models]]\nmatch = "ours"\nuse = "gemini-3-pro-image"\n[[models]]\nmatch="x"\nuse="y"\n')
    result = weighbridge("prices", "list", "--models", "--at", "2026-11-21", "--config", str(config))
    assert result.exit_code == 0, result.output
    lines = {line.split()[0]: " ".join(line.split()) for line in result.stdout.splitlines() if line}
    assert lines["gemini-nano-banana-2.1"] == (
        "gemini-nano-banana-2.1 1.5 7.5 30 0.012 0.0336 0.0504 0.1134 also 1:4 4:1 1:8 8:1"
    )
    assert lines["ours"] == "ours 2 12 120 0.1344 0.1344 0.24 alias of gemini-3-pro-image"
    assert lines["x"] == "x alias of y; no price: [[prices]] sets one"
    assert lines["gemini-2.5-flash-image"].endswith("shut down on 2026-10-02: gemini-nano-banana-2.1 answers")
    assert lines["gemini-4-argon"] == "gemini-4-argon 2 10"
    told = json.loads(weighbridge("prices", "list", "--models", "--at", "2026-12-01", "--json").stdout)
    assert told["object"] == "list"
    assert {model["id"]: model for model in told["data"]}["gemini-4-argon"]["x_weighbridge"]["rates"][
        "input_text"
    ] == "4"
