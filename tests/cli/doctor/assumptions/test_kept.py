"""What is kept of an answer holds no secret and no media."""

from __future__ import annotations

import json
from pathlib import Path

from proxy.cli.doctor.assumptions import answers, kept
from tests.cli.doctor.assumptions.contrary import AT, BOOK, CALLS, drawn, usage

KEY = 'k"y of-no shape'


def test_key_project_and_pictures_are_left_out_and_figures_stay(tmp_path: Path) -> None:
    document = drawn(usage(), 1)
    document["candidates"][0]["content"]["parts"][0]["inlineData"]["data"] = "A" * 5_000
    document["said"] = f"{KEY} AIzaSyA1234567890123456789012345678901 projects/123456789012 wb_0123456789abcdef"
    document["trouble"] = {"consumer": "projects/acme-prod"}
    body = json.dumps(document).encode()
    headers = {"x-gemini-service-tier": "flex", "set-cookie": "a=b", "date": "today"}
    kept.keep(tmp_path, answers.read(CALLS["image"], body, headers, BOOK, AT), KEY)
    text = (tmp_path / "image.json").read_text()
    found = json.loads(text)
    assert found["answered"][0]["candidates"][0]["content"]["parts"][0]["inlineData"]["data"] == "[5000 characters]"
    assert found["answered"][0]["usageMetadata"] == usage()
    assert found["asked"] == CALLS["image"].body
    assert found["headers"] == {"date": "today", "x-gemini-service-tier": "flex"}
    assert found["charged"]["quantities"] == {"input_text": 10, "output_image": 5}
    assert found["answered"][0]["said"] == "REDACTED [redacted] projects/0 [redacted]"
    assert "acme" not in text
    assert (tmp_path / "image.json").stat().st_mode & 0o777 == 0o600


def test_what_is_no_json_is_kept_as_text(tmp_path: Path) -> None:
    answer = answers.Answer(CALLS["text"], 502, "no error of Google's", b"<html>\xff" + KEY.encode())
    kept.keep(tmp_path, answer, KEY)
    assert json.loads((tmp_path / "text.json").read_text())["answered"] == ["<html>\ufffdREDACTED"]
