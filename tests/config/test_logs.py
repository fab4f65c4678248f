"""[logs]: a part is between nothing and all, a form is one of three; each may stand in the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.config.load import ConfigError, load

KEY = {"GEMINI_API_KEY": "some-key"}


def test_settings_are_taken_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = {"FORMAT": "people", "ACCESS": "false", "SAMPLE_SUCCESSES": "0.01"}
    logs = load(None, KEY | {f"WEIGHBRIDGE_LOGS__{name}": value for name, value in given.items()}).logs
    assert (logs.format, logs.access, logs.sample_successes) == ("people", False, 0.01)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("FORMAT", "xml"), ("SAMPLE_SUCCESSES", "1.01"), ("SAMPLE_SUCCESSES", "-0.1"), ("SAMPLE_SUCCESSES", "nan")],
)
def test_what_is_out_of_bounds_is_refused(
    setting: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=rf"logs\.{setting.lower()}"):
        load(None, KEY | {f"WEIGHBRIDGE_LOGS__{setting}": value})
