"""[tracing]: where spans go, headers that come by reference, and what must be installed for it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from proxy.config.load import ConfigError, load, read
from proxy.config.tracing import parse_headers

KEY = {"GEMINI_API_KEY": "any"}
TO = 'otlp_endpoint = "http://collector:4318"\n'


def written(folder: Path, text: str) -> Path:
    path = folder / "weighbridge.toml"
    path.write_text(f"[tracing]\n{text}\n")
    return path


@pytest.mark.parametrize(
    "url",
    [
        "http://collector:4318",
        "http://collector:4318/",
        "http://collector:4318/v1/traces",
        "http://collector:4318/v1/traces/",
    ],
)
def test_the_endpoint_is_a_base_url_with_the_path_of_traces_or_without(tmp_path: Path, url: str) -> None:
    assert load(written(tmp_path, f'otlp_endpoint = "{url}"'), KEY).tracing.otlp_endpoint == "http://collector:4318"


def test_headers_come_by_reference(tmp_path: Path) -> None:
    """As OTEL_EXPORTER_OTLP_HEADERS has them."""
    (tmp_path / "headers").write_text("Authorization=Bearer%20geheim,x-team=a\n")
    for setting in ('headers_env = "H"', 'headers_file = "headers"'):
        settings = load(written(tmp_path, TO + setting), {**KEY, "H": "Authorization=Bearer%20geheim,x-team=a"})
        assert settings.tracing.headers is not None
        text = settings.tracing.headers.get_secret_value()
        assert parse_headers(text) == {"authorization": "Bearer geheim", "x-team": "a"}
        assert "geheim" not in repr(settings)
    assert load(tmp_path / "weighbridge.toml", {}, upstreams=False).tracing.headers is None


def test_a_file_of_headers_is_watched(tmp_path: Path) -> None:
    (tmp_path / "headers").write_text("a=b")
    (tmp_path / "headers").chmod(0o644)
    loaded = read(written(tmp_path, TO + 'headers_file = "headers"'), KEY)
    assert tmp_path / "headers" in loaded.files
    assert any("every user of this machine" in warning for warning in loaded.warnings)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('otlp_endpoint = "collector:4318"', "must be an http:// or https:// URL"),
        ('otlp_endpoint = "grpc://geheim:4317"', "must be an http:// or https:// URL"),
        ('otlp_endpoint = "https://u:geheim@x"', "goes in headers_env or _file"),
        ('otlp_endpoint = "https://x/?token=geheim"', "no query"),
        (TO + "sample_ratio = 1.5", "less than or equal to 1"),
        (TO + "sample_ratio = nan", "finite"),
        ('headers_env = "H"', "otlp_endpoint is not: it says whom they are for"),
        (TO + 'headers = "a=geheim"', 'headers_env = "ITS_NAME"'),
        (TO + 'headers_env = "UNSET"', "variable UNSET is not set: set it to the headers for the collector"),
        (TO + 'headers_env = "H"\nheaders_file = "f"', "set exactly one of"),
        *(
            (TO + f'headers_env = "{name}"', f"{name} must hold NAME=VALUE")
            for name in ("H", "COLON", "BREAK", "EMPTY")
        ),
    ],
)
def test_mistakes_are_told_without_secrets(text: str, told: str, tmp_path: Path) -> None:
    """A value with a line break would be two headers; one that begins with a space, requests refuses with the value."""
    environ = {"H": "geheim", "COLON": "a:geheim", "BREAK": "a=geheim%0d%0ab", "EMPTY": "a="}
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, text), {**KEY, **environ})
    assert told in str(caught.value)
    assert "weighbridge.toml:" in str(caught.value)
    assert "geheim" not in str(caught.value)


def test_what_is_not_installed_is_told_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By who would serve; and only where traces are asked for."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "opentelemetry"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, TO), KEY)
    (problem,) = caught.value.problems
    assert problem.startswith(f"{tmp_path}/weighbridge.toml:2: tracing.otlp_endpoint: ")
    assert "pip install 'weighbridge[otel]'" in problem
    assert "requirements/otel.txt" in problem
    assert load(tmp_path / "weighbridge.toml", {}, upstreams=False).tracing.otlp_endpoint
    assert load(written(tmp_path, ""), KEY).tracing.otlp_endpoint == ""
