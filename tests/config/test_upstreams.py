"""What an upstream's settings accept, and what they keep to themselves."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from proxy.config.load import load, read
from proxy.config.upstreams import TLS_FILES, Upstream
from tests.certificates import make_certificate
from tests.config.test_load import KEY, problems, written


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


def test_a_mistake_in_an_upstreams_limits_is_told_with_its_line(tmp_path: Path) -> None:
    """However the table is written; and a number that is one is read."""
    upstream = '[[upstreams]]\nname = "a"\napi_key_env = "GEMINI_API_KEY"\n'
    told = problems(f"{upstream}limits = {{rpm = -1}}\n", tmp_path)
    assert told.startswith(f"{tmp_path}/weighbridge.toml:4: upstreams.0.limits: rpm must be a whole number")
    told = problems(f"{upstream}[upstreams.limits]\nrpm = 5\n[upstreams.limits.'gemini-*']\nrpx = 1\n", tmp_path)
    assert told.startswith(f"{tmp_path}/weighbridge.toml:4: upstreams.0.limits: 'gemini-*'.rpx is no kind")
    path = written(tmp_path, f"{upstream}[upstreams.limits]\nusd_per_10min = 2.50\n[upstreams.limits.'g-*']\nipm = 1\n")
    assert str(load(path, KEY).upstreams[0].limits) == '{usd_per_10min = 2.5, "g-*" = {ipm = 1}}'


ODD = '[[upstreams]]\nname = "a"\napi_key_env = "GEMINI_API_KEY"\n'


def test_the_password_of_a_forward_proxy_comes_by_reference(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("geheim\n")
    for setting in ('proxy_password_env = "P"', 'proxy_password_file = "password"'):
        text = f'{ODD}proxy_url = "http://al%40ice@proxy.corp:3128/"\n{setting}\n'
        (upstream,) = load(written(tmp_path, text), {**KEY, "P": "geheim"}).upstreams
        assert upstream.proxy_password is not None
        assert upstream.proxy_password.get_secret_value() == "geheim"
        assert upstream.proxy_url == "http://al%40ice@proxy.corp:3128"
        assert "geheim" not in repr(upstream)
    assert load(written(tmp_path, f'{ODD}proxy_url = "http://[::1]:3128"\n'), KEY).upstreams[0].proxy_password is None


def test_files_of_an_upstream_are_meant_from_the_files_folder_and_watched(tmp_path: Path) -> None:
    folder = tmp_path / "etc"
    folder.mkdir()
    make_certificate(folder)
    text = ODD + "".join(f'{name} = "localhost.pem"\n' for name in TLS_FILES)
    loaded = read(written(folder, text), KEY)
    assert loaded.settings.upstreams[0].client_key_file == folder / "localhost.pem"
    assert folder / "localhost.pem" in loaded.files


def test_an_upstream_whose_certificate_was_renewed_under_the_same_name_is_another(tmp_path: Path) -> None:
    """So a reload makes it new connections."""
    make_certificate(tmp_path)
    path = written(tmp_path, ODD + 'client_cert_file = "localhost.pem"\nclient_key_file = "localhost.pem"\n')
    before, same = (load(path, KEY).upstreams for _ in range(2))
    assert before == same
    make_certificate(tmp_path)
    assert load(path, KEY).upstreams != before


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('ca_file = "gone"', "weighbridge.toml:4: upstreams.0.ca_file: leads to no file"),
        ('ca_file = "weighbridge.toml"', "weighbridge.toml:4: upstreams.0.ca_file: "),
        ('ca_file = "weighbridge.toml"\nbase_url = "http://a"', "ca_file is set, and base_url asks for no TLS"),
        ('client_cert_file = "weighbridge.toml"', "client_cert_file and client_key_file go together"),
        ('client_key_file = "weighbridge.toml"', "client_cert_file and client_key_file go together"),
        ('proxy_url = "http://u:geheim@p"', "upstreams.0.proxy_url: must not hold a password"),
        ('proxy_url = "https://p"', "upstreams.0.proxy_url: must be an http:// URL"),
        ('proxy_url = "p:3128"', "upstreams.0.proxy_url: must be an http:// URL"),
        ('proxy_url = "http://"', "upstreams.0.proxy_url: must be an http:// or https:// URL with a host"),
        ('proxy_url = "http://p/path"', "upstreams.0.proxy_url: must end with its port"),
        ('proxy_url = "http://p?geheim"', "upstreams.0.proxy_url: must end with its path"),
        ('proxy_url = "http://p:0"', "upstreams.0.proxy_url: must not have port 0"),
        ('proxy_url = "http://a%3Ab@p"', "upstreams.0.proxy_url: has a user name that can't be one"),
        ('proxy_url = "http://p"\nproxy_password_env = "P"', 'proxy_url = "http://USER@HOST:PORT"'),
        ('proxy_password_env = "P"', 'proxy_url = "http://USER@HOST:PORT"'),
        ('proxy_url = "http://u@p"\nproxy_password = "geheim"', 'write proxy_password_env = "ITS_NAME"'),
        ('proxy_url = "http://u@p"\nproxy_password_env = "UNSET"', "variable UNSET is not set"),
        ('proxy_url = "http://u@p"\nproxy_password_env = "P"\nproxy_password_file = "f"', "set exactly one of"),
    ],
)
def test_mistakes_about_the_way_to_an_upstream_are_told_without_its_secrets(
    text: str, told: str, tmp_path: Path
) -> None:
    said = problems(f"{ODD}{text}\n", tmp_path, {**KEY, "P": "geheim"})
    assert told in said
    assert "geheim" not in said
