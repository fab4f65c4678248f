"""Where the configuration is read from, what wins, and how mistakes in it are told."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from proxy.config.load import ConfigError, load, read

KEY = {"GEMINI_API_KEY": "AIzaGeheim"}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def written(tmp_path: Path, text: str, name: str = "weighbridge.toml") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def problems(text: str, tmp_path: Path, environ: dict[str, str] = KEY) -> str:
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, text), environ)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return str(caught.value)


@pytest.mark.parametrize("name", ["GEMINI_API_KEY", "GOOGLE_API_KEY"])
def test_a_key_in_the_environment_is_configuration_enough(name: str) -> None:
    settings = load(None, {name: " AIzaGeheim\n"})
    assert settings.server.port == 8080
    assert settings.storage.data_dir == Path("weighbridge-data")
    (upstream,) = settings.upstreams
    assert (upstream.name, upstream.base_url) == ("google", "https://generativelanguage.googleapis.com")
    assert upstream.api_key.get_secret_value() == "AIzaGeheim"


def test_an_empty_gemini_key_does_not_hide_a_google_key() -> None:
    settings = load(None, {"GEMINI_API_KEY": "", "GOOGLE_API_KEY": "AIzaGeheim"})
    assert settings.upstreams[0].api_key_env == "GOOGLE_API_KEY"


def test_without_any_key_the_error_says_how_to_give_one() -> None:
    with pytest.raises(ConfigError, match=r"no upstream: set GEMINI_API_KEY.*\[\[upstreams\]\]"):
        load(None, {})


def test_commands_that_call_nobody_need_no_upstream_and_no_secret(tmp_path: Path) -> None:
    assert load(None, {}, upstreams=False).upstreams == ()
    path = written(tmp_path, '[server]\nport = 9\n[[upstreams]]\nname = "a"\napi_key_env = "UNSET"\n')
    assert load(path, {}, upstreams=False).server.port == 9


def test_the_environment_goes_before_the_file_and_the_file_before_the_defaults(tmp_path: Path) -> None:
    path = written(tmp_path, "[server]\nport = 9000\nadmin_port = 9001\n")
    loaded = read(path, {**KEY, "WEIGHBRIDGE_SERVER__PORT": "9002"})
    server = loaded.settings.server
    assert (server.port, server.admin_port, server.max_body_mb) == (9002, 9001, 100)
    assert loaded.origins["server.port"] == "env WEIGHBRIDGE_SERVER__PORT"
    assert loaded.origins["server.admin_port"] == f"{path}:3"
    assert "server.max_body_mb" not in loaded.origins


def test_the_file_is_the_one_named_then_the_one_in_the_environment_then_the_one_here(tmp_path: Path) -> None:
    written(tmp_path, "[server]\nport = 1\n")
    other = written(tmp_path, "[server]\nport = 2\n", "other.toml")
    third = written(tmp_path, "[server]\nport = 3\n", "third.toml")
    assert load(None, KEY).server.port == 1
    assert load(None, {**KEY, "WEIGHBRIDGE_CONFIG": str(other)}).server.port == 2
    assert load(third, {**KEY, "WEIGHBRIDGE_CONFIG": str(other)}).server.port == 3


def test_a_named_file_that_is_missing_is_an_error_that_says_who_named_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.toml: can't be read: No such file"):
        load(Path("gone.toml"), KEY)
    with pytest.raises(ConfigError, match=r"gone\.toml \(named by \$WEIGHBRIDGE_CONFIG\): can't be read"):
        load(None, {**KEY, "WEIGHBRIDGE_CONFIG": "gone.toml"})


def test_paths_in_the_file_are_taken_from_the_files_folder(tmp_path: Path) -> None:
    folder = tmp_path / "etc"
    folder.mkdir()
    (folder / "google.key").write_text("AIzaGeheim\n")
    (folder / "google.key").chmod(0o600)
    text = '[storage]\ndata_dir = "data"\n[[upstreams]]\nname = "a"\napi_key_file = "google.key"\n'
    settings = load(written(folder, text), {})
    assert settings.storage.data_dir == folder / "data"
    assert settings.upstreams[0].api_key.get_secret_value() == "AIzaGeheim"
    assert load(folder / "weighbridge.toml", {"WEIGHBRIDGE_STORAGE__DATA_DIR": "/x"}).storage.data_dir == Path("/x")


def test_prices_are_read_without_a_rounding(tmp_path: Path) -> None:
    text = '[[prices]]\nmodel = "m"\nfrom = 2026-12-01\ninput_text = 0.1\noutput_text = 3\n'
    (price,) = load(written(tmp_path, text), KEY).prices
    assert (price.from_, price.input_text, price.output_text) == (date(2026, 12, 1), Decimal("0.1"), Decimal(3))


def test_origins_may_be_written_with_commas_in_the_environment() -> None:
    environ = {**KEY, "WEIGHBRIDGE_GATEWAY__CORS_ORIGINS": "https://a.example, http://localhost:3000"}
    assert load(None, environ).gateway.cors_origins == ("https://a.example", "http://localhost:3000")
    assert load(None, {**KEY, "WEIGHBRIDGE_GATEWAY__CORS_ORIGINS": ""}).gateway.cors_origins == ()


def test_limits_are_written_with_semicolons_in_the_environment_because_they_have_commas(tmp_path: Path) -> None:
    environ = {
        **KEY,
        "WEIGHBRIDGE_LIMITS__DEFAULTS": "rpm=60; ipm=5,model=*-image*;",
        "WEIGHBRIDGE_SERVER__TRUSTED_PROXIES": "10.0.0.0/8, ::1",
    }
    settings = load(None, environ)
    assert settings.limits.defaults == ("rpm=60", "ipm=5,model=*-image*")
    assert settings.server.trusted_proxies == ("10.0.0.0/8", "::1/128")


def test_a_default_limit_that_is_none_is_told_with_its_line_and_what_to_write(tmp_path: Path) -> None:
    told = problems('[limits]\ndefaults = ["rpm=60", "rps=5"]\n', tmp_path)
    assert "weighbridge.toml:2: limits.defaults: 'rps=5': 'rps' is no kind of limit" in told
    assert "did you mean rpm?" in told


def test_a_mistyped_setting_is_told_with_its_line_and_the_nearest_name(tmp_path: Path) -> None:
    told = problems("[server]\nhost = '::1'\nprot = 1\n", tmp_path)
    assert told == f"{tmp_path}/weighbridge.toml:3: server.prot: unknown setting; did you mean port?"


def test_a_mistyped_section_is_told_with_the_nearest_name(tmp_path: Path) -> None:
    assert "servr: unknown setting; did you mean server?" in problems("[servr]\nport = 1\n", tmp_path)


def test_a_mistyped_variable_is_told_with_the_nearest_name() -> None:
    with pytest.raises(
        ConfigError, match="WEIGHBRIDGE_SEVER__PORT: unknown setting; did you mean WEIGHBRIDGE_SERVER__PORT"
    ):
        load(None, {**KEY, "WEIGHBRIDGE_SEVER__PORT": "1"})


def test_a_variable_without_its_section_is_not_passed_over() -> None:
    with pytest.raises(ConfigError, match=r"env WEIGHBRIDGE_PORT: .* WEIGHBRIDGE_SERVER__PORT"):
        load(None, {"GEMINI_API_KEY": "k", "WEIGHBRIDGE_PORT": "9000"})


def test_a_variable_with_one_underscore_is_not_passed_over() -> None:
    with pytest.raises(ConfigError, match="two underscores before the name: WEIGHBRIDGE_STORAGE__DATA_DIR"):
        load(None, {**KEY, "WEIGHBRIDGE_STORAGE_DATA_DIR": "/x"})


def test_a_list_in_the_environment_is_told_to_go_into_the_file() -> None:
    with pytest.raises(ConfigError, match=r"WEIGHBRIDGE_UPSTREAMS__0__NAME: .* write them in weighbridge\.toml"):
        load(None, {**KEY, "WEIGHBRIDGE_UPSTREAMS__0__NAME": "a"})
    with pytest.raises(
        ConfigError, match=r"WEIGHBRIDGE_MODELS__0__USE: \[\[upstreams\]\], \[\[models\]\] and .* are lists"
    ):
        load(None, {**KEY, "WEIGHBRIDGE_MODELS__0__USE": "a"})


def test_a_mistake_in_an_alias_is_told_with_its_line(tmp_path: Path) -> None:
    told = problems('[[models]]\nmatch = "gemini-2.5-*"\nuse = "gemini-3*"\n', tmp_path)
    assert "weighbridge.toml:3: models.0.use = gemini-3*: is no model's id: write one, without models/" in told
    told = problems('[[models]]\nmatch = "a"\nuses = "b"\n', tmp_path)
    assert "weighbridge.toml:3: models.0.uses: unknown setting; did you mean use?" in told


def test_variables_that_are_not_settings_are_left_alone() -> None:
    """Kubernetes sets these for services called weighbridge and weighbridge-server; the others are ours."""
    ours = {"WEIGHBRIDGE_KEY": "wb_x", "WEIGHBRIDGE_ADMIN_TOKEN": "t"}
    kubernetes = {"WEIGHBRIDGE_PORT": "tcp://10.0.0.1:80", "WEIGHBRIDGE_SERVICE_HOST": "10.0.0.1"}
    load(None, {**KEY, **ours, **kubernetes, "WEIGHBRIDGE_SERVER_PORT": "tcp://10.0.0.1:80"})


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    text = '[server]\nport = 99999\n[limits]\ntimezone = "x"\n[[upstreams]]\nname = "a"\napi_key_env = "UNSET"\n'
    told = problems(text, tmp_path, {"WEIGHBRIDGE_SERVER__ADMIN_PORT": "abc"}).splitlines()
    assert len(told) == 4
    assert any("weighbridge.toml:2: server.port = 99999: should be less than or equal to 65535" in one for one in told)
    assert any("env WEIGHBRIDGE_SERVER__ADMIN_PORT: server.admin_port = abc" in one for one in told)
    assert any(
        "weighbridge.toml:7: upstreams.0.api_key_env: the environment variable UNSET is not set" in one for one in told
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('name = "Two Words"', "weighbridge.toml:5: upstreams.1.name: should be 1 to 63 lower-case letters"),
        ('name = "b"\nmodels = []', "weighbridge.toml:6: upstreams.1.models: should have at least one entry"),
        ('name = "b"\nprojects = "b"', "weighbridge.toml:6: upstreams.1.projects: should be a list"),
        ("priority = 1", "weighbridge.toml:4: upstreams.1.name: is required"),
        ('name = "b"\napi_key_file = "f"', "upstreams.1.api_key_env: set exactly one of api_key_env and api_key_file"),
    ],
)
def test_a_mistake_in_an_upstream_is_told_with_its_line_and_in_plain_words(
    text: str, told: str, tmp_path: Path
) -> None:
    one = '[[upstreams]]\nname = "a"\napi_key_env = "GEMINI_API_KEY"\n'
    assert told in problems(f'{one}[[upstreams]]\n{text}\napi_key_env = "GEMINI_API_KEY"\n', tmp_path)


def test_what_an_upstream_lacks_is_told_with_the_line_where_it_begins(tmp_path: Path) -> None:
    told = problems(
        '[[upstreams]]\nname = "a"\napi_key_env = "GEMINI_API_KEY"\n\n[[upstreams]]\nname = "b"\n', tmp_path
    )
    assert told.endswith("weighbridge.toml:5: upstreams.1.api_key_env: set exactly one of api_key_env and api_key_file")
    told = problems('[[models]]\nmatch = "a"\nuse = "a"\n', tmp_path)
    assert "weighbridge.toml:1: models.0: a stands in for itself" in told


def test_upstreams_make_a_pool_and_have_names_of_their_own(tmp_path: Path) -> None:
    one = '[[upstreams]]\nname = "{}"\napi_key_env = "GEMINI_API_KEY"\n'
    assert [
        upstream.name for upstream in load(written(tmp_path, one.format("b") + one.format("a")), KEY).upstreams
    ] == [
        "b",
        "a",
    ]
    assert "two upstreams are called a" in problems(one.format("a") + one.format("b") + one.format("a"), tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        '[[upstreams]]\nname = "a"\napi_key = "AIzaVerraten"\n',
        '[[upstreams]]\nname = "a"\napi_key_env = "AIzaVerraten"\n',
        '[[upstreams]]\nname = "a"\napi_key_env = "sk-Verraten"\n',
        '[[upstreams]]\nname = "a"\napi_key_file = "AIzaVerraten"\n',
        '[[upstreams]]\nname = "a"\napi_key_env = "GEMINI_API_KEY"\napikey = "AIzaVerraten"\n',
        '[upstreams]\nname = "a"\napi_key = "AIzaVerraten"\n',
        'upstreams = ["AIzaVerraten"]\n',
        'upstreams = "AIzaVerraten"\n',
        'GEMINI_API_KEY = "AIzaVerraten"\n',
        '[server]\napi_key = "AIzaVerraten"\n',
        '[[upstreams]]\nname = "AIzaVerraten"\napi_key_env = "GEMINI_API_KEY"\n',
    ],
)
def test_a_secret_in_the_file_is_refused_and_never_repeated(text: str, tmp_path: Path) -> None:
    told = problems(text, tmp_path)
    assert "Verraten" not in told
    assert "weighbridge.toml" in told


@pytest.mark.parametrize(
    "text",
    ["server = 1\n", "server = [1]\n", "prices = 1\n", "models = 1\n", "[[server]]\nport = 1\n", "upstreams = []\n"],
)
def test_a_section_of_the_wrong_shape_is_told(text: str, tmp_path: Path) -> None:
    assert problems(text, tmp_path, {**KEY, "WEIGHBRIDGE_SERVER__HOST": "::1"})


@pytest.mark.parametrize("text", [b"[server\n", b"\xff", b"[server]\nport=1\nport=2\n"])
def test_a_file_that_is_not_toml_is_told(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "weighbridge.toml").write_bytes(text)
    with pytest.raises(ConfigError, match=r"^weighbridge\.toml: is not"):
        load(None, KEY)


def test_a_secret_is_in_no_repr() -> None:
    assert "Geheim" not in repr(read(None, KEY))


POSTGRES = '[storage]\ndatabase_url = "postgresql://proxy@p/bill?sslmode=require"\n'


def test_the_password_of_postgresql_comes_by_reference(tmp_path: Path) -> None:
    """From the environment or a file, whose path is meant from the configuration's folder; and it is shown nowhere."""
    (tmp_path / "password").write_text("geheim\n")
    for setting in ('database_password_env = "P"', 'database_password_file = "password"'):
        for upstreams in (True, False):  # commands that call nobody ask the database all the same
            settings = load(written(tmp_path, POSTGRES + setting), {**KEY, "P": "geheim"}, upstreams=upstreams)
            assert settings.storage.database_password is not None
            assert settings.storage.database_password.get_secret_value() == "geheim"
            assert "geheim" not in repr(settings)
    assert load(written(tmp_path, POSTGRES), KEY).storage.database_password is None


def test_commands_that_ask_no_database_need_no_password_of_it(tmp_path: Path) -> None:
    """Whoever asks it all the same is told then (proxy/store/database.py)."""
    path = written(tmp_path, POSTGRES + 'database_password_env = "UNSET"')
    assert load(path, {}, upstreams=False).storage.database_password is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('database_url = "postgresql://a:geheim@p/b"', "weighbridge.toml:2: storage.database_url: must not hold"),
        ('database_url = "mysql://a:geheim@p/b"', "storage.database_url: must begin with postgresql://"),
        ('database_url = "postgresql://p/b"\ndatabase_password = "geheim"', 'database_password_env = "ITS_NAME"'),
        ('database_url = "postgresql://p/b"\ndatabase_password_env = "UNSET"', "variable UNSET is not set"),
        ('database_url = "postgresql://p/b"\ndatabase_password_file = "gone"', "gone can't be read: No such file"),
        ('database_password_env = "P"', "database_url is not: it says which PostgreSQL"),
    ],
)
def test_mistakes_about_postgresql_are_told_without_its_password(text: str, told: str, tmp_path: Path) -> None:
    said = problems(f"[storage]\n{text}\n", tmp_path, {**KEY, "P": "geheim"})
    assert told in said
    assert "geheim" not in said


REDIS = '[storage]\nredis_url = "rediss://proxy@r/1"\n'


def test_the_password_of_redis_comes_by_reference(tmp_path: Path) -> None:
    """From the environment or a file, whose path is meant from the configuration's folder; and it is shown nowhere."""
    (tmp_path / "password").write_text("geheim\n")
    for setting in ('redis_password_env = "P"', 'redis_password_file = "password"'):
        settings = load(written(tmp_path, REDIS + setting), {**KEY, "P": "geheim"})
        assert settings.storage.redis_password is not None
        assert settings.storage.redis_password.get_secret_value() == "geheim"
        assert "geheim" not in repr(settings)
    assert load(written(tmp_path, REDIS), KEY).storage.redis_password is None


def test_commands_that_call_nobody_need_no_password_of_redis(tmp_path: Path) -> None:
    """Where it is at hand, they have it all the same."""
    path = written(tmp_path, REDIS + 'redis_password_env = "P"')
    assert load(path, {}, upstreams=False).storage.redis_url == "rediss://proxy@r/1"
    password = load(path, {"P": "geheim"}, upstreams=False).storage.redis_password
    assert password is not None
    assert password.get_secret_value() == "geheim"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('redis_url = "redis://:geheim@r"', "weighbridge.toml:2: storage.redis_url: must not hold a password"),
        ('redis_url = "http://u:geheim@r"', "storage.redis_url: must begin with one of redis://"),
        ('redis_url = "redis://r"\nredis_password = "geheim"', 'redis_password_env = "ITS_NAME"'),
        ('redis_url = "redis://r"\nredis_password_env = "UNSET"', "variable UNSET is not set"),
        ('redis_url = "redis://r"\nredis_password_file = "gone"', "gone can't be read: No such file"),
        ('redis_password_env = "P"', "redis_url is not: it says which Redis"),
        ('redis_url = "redis://r"\nredis_ca_file = "weighbridge.toml"', "begin it with rediss"),
        ('redis_url = "rediss://r"\nredis_ca_file = "gone"', "storage.redis_ca_file"),
    ],
)
def test_mistakes_about_redis_are_told_without_its_password(text: str, told: str, tmp_path: Path) -> None:
    said = problems(f"[storage]\n{text}\n", tmp_path, {**KEY, "P": "geheim"})
    assert told in said
    assert "geheim" not in said


def test_a_password_itself_in_the_environment_is_refused_and_never_repeated() -> None:
    with pytest.raises(ConfigError, match="did you mean WEIGHBRIDGE_STORAGE__REDIS_PASSWORD_ENV") as caught:
        load(None, {**KEY, "WEIGHBRIDGE_STORAGE__REDIS_PASSWORD": "geheim"})
    assert "geheim" not in str(caught.value)


HOOK = 'webhook_url = "https://x.example/hidden?token=geheim"\n'
WHSEC = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_the_secret_of_the_webhook_comes_by_reference(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(WHSEC.removeprefix("whsec_") + "\n")
    for setting, value in (("env", '"W"'), ("file", '"secret"')):
        path = written(tmp_path, f"[events]\n{HOOK}webhook_secret_{setting} = {value}\n")
        settings = load(path, {**KEY, "W": WHSEC})
        assert settings.events.webhook_secret is not None
        assert settings.events.webhook_secret.get_secret_value().endswith("LaLaSw")
        assert "LaLaSw" not in repr(settings)
    assert load(path, {}, upstreams=False).events.webhook_secret is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (HOOK, "no secret to sign with: set webhook_secret_env, or _file"),
        ('webhook_secret_env = "W"', "webhook_url is not: it says whom that is shared with"),
        (HOOK + f'webhook_secret = "{WHSEC}"', 'webhook_secret_env = "ITS_NAME"'),
        (HOOK + f'webhook_secret_env = "{WHSEC}"', "looks like the key itself"),
        (HOOK + 'webhook_secret_env = "UNSET"', "variable UNSET is not set: set it to the secret of the webhook"),
        (HOOK + 'webhook_secret_env = "SHORT"', "SHORT must hold 24 to 64 random bytes in base64"),
        (HOOK + 'webhook_secret_env = "W"\nwebhook_secret_file = "f"', "set exactly one of"),
        ('webhook_url = "ftp://geheim.example"\nwebhook_secret_env = "W"', "must be an http:// or https:// URL"),
        ('webhook_url = "https://u:geheim@x"\nwebhook_secret_env = "W"', "no user name or password"),
        ('webhook_url = "https://x/#geheim"\nwebhook_secret_env = "W"', "must have no fragment"),
    ],
)
def test_mistakes_about_the_webhook_are_told_without_its_secrets(text: str, told: str, tmp_path: Path) -> None:
    said = problems(f"[events]\n{text}\n", tmp_path, {**KEY, "W": WHSEC, "SHORT": "Z2VoZWlt"})
    assert told in said
    assert not any(secret in said for secret in ("geheim", "LaLaSw", "Z2VoZWlt"))
