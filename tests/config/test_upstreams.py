"""What an upstream's settings accept, and what they keep to themselves."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from proxy.config.upstreams import Upstream


def upstream(base_url: str) -> Upstream:
    return Upstream.model_validate({"name": "google", "base_url": base_url, "api_key": "AIzaGeheim"})


@pytest.mark.parametrize(
    "base_url",
    [
        "https://generativelanguage.googleapis.com",
        "http://127.0.0.1:9000",
        "http://[::1]:9000",
        "https://x.example/gemini",
    ],
)
def test_a_base_url_may_have_a_port_and_a_path(base_url: str) -> None:
    assert upstream(base_url).base_url == base_url
    assert upstream(base_url + "/").base_url == base_url


@pytest.mark.parametrize(
    "base_url",
    [
        "generativelanguage.googleapis.com",
        "ftp://x.example",
        "https://",
        "https://x.example/?key=1",
        "https://x.example/?",
        "https://x.example/#a",
        "https://x.example:99999",
        "https://x.example:0",
        "https://x.example/a b",
        "https://x.example/\r\nx: y",
        "https://exämple.com",
    ],
)
def test_a_base_url_that_could_not_be_joined_with_a_path_is_refused(base_url: str) -> None:
    with pytest.raises(ValidationError):
        upstream(base_url)


def test_a_base_url_with_a_password_is_refused_without_repeating_it() -> None:
    with pytest.raises(ValidationError) as caught:
        upstream("https://user:geheim@x.example")
    assert "geheim" not in str(caught.value)
    assert "api_key_env" in str(caught.value)


def test_an_upstreams_key_is_not_in_its_repr() -> None:
    assert "AIzaGeheim" not in repr(upstream("https://x.example"))
    assert "AIzaGeheim" not in upstream("https://x.example").model_dump_json()


@pytest.mark.parametrize(
    "setting", [{"weight": 0}, {"weight": 101}, {"priority": -1}, {"models": []}, {"projects": []}]
)
def test_an_upstream_that_could_serve_nobody_is_refused(setting: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Upstream.model_validate({"name": "google", "api_key": "AIzaGeheim", **setting})


@pytest.mark.parametrize(
    ("setting", "glob"), [("models", "models/gemini-3"), ("models", "[z-a]"), ("projects", "Alice")]
)
def test_a_glob_that_could_match_nothing_is_refused(setting: str, glob: str) -> None:
    with pytest.raises(ValidationError, match=setting):
        Upstream.model_validate({"name": "google", "api_key": "AIzaGeheim", setting: [glob]})
