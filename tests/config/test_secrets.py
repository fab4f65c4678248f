"""References to secrets, and what is said where one leads nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.config.secrets import SecretError, exposure, resolve, webhook_key


def told(upstream: dict[str, object], environ: dict[str, str] | None = None) -> tuple[str, str]:
    with pytest.raises(SecretError) as caught:
        resolve(upstream, environ or {})
    assert "Geheim" not in str(caught.value)
    return caught.value.setting, str(caught.value)


def test_a_secret_is_read_from_the_environment_or_a_file_without_what_surrounds_it(tmp_path: Path) -> None:
    assert resolve({"api_key_env": "K"}, {"K": " AIzaGeheim\n"}) == "AIzaGeheim"
    (tmp_path / "key").write_text("AIzaGeheim\n")
    assert resolve({"api_key_file": str(tmp_path / "key")}, {}) == "AIzaGeheim"


def test_exactly_one_reference_is_wanted() -> None:
    assert "exactly one" in told({})[1]
    assert "exactly one" in told({"api_key_env": "K", "api_key_file": "f"})[1]


@pytest.mark.parametrize("environ", [{}, {"K": ""}, {"K": "  "}])
def test_a_variable_that_is_not_set_is_named(environ: dict[str, str]) -> None:
    assert told({"api_key_env": "K"}, environ) == (
        "api_key_env",
        "the environment variable K is not set: set it to the key of this upstream",
    )


def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    assert (
        told({"api_key_file": str(tmp_path / "gone")})[1] == f"{tmp_path}/gone can't be read: No such file or directory"
    )
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    assert "is not text" in told({"api_key_file": str(tmp_path / "binary")})[1]


@pytest.mark.parametrize(
    "value", ["AIzaGeheim AIzaGeheim", "AIzaGeheim\nAIzaGeheim", "AIzaGeheim\r\nx: y", "AIzaGeheimé"]
)
def test_a_secret_that_could_not_stand_in_a_header_is_refused(value: str) -> None:
    assert "must hold the key alone" in told({"api_key_env": "K"}, {"K": value})[1]


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key").touch()
    assert "must hold the key alone" in told({"api_key_file": str(tmp_path / "key")})[1]


@pytest.mark.parametrize("reference", [5, "", None, ["K"]])
def test_a_reference_that_is_no_name_is_refused(reference: object) -> None:
    assert told({"api_key_env": reference})[0] == "api_key_env"


def test_a_secret_that_everybody_can_read_is_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.touch(mode=0o600)
    assert exposure(path) is None
    path.chmod(0o640)
    assert exposure(path) is None
    path.chmod(0o644)
    assert f"chmod 600 {path}" in (exposure(path) or "")


def test_messages_name_the_settings_and_the_secret_that_they_are_about(tmp_path: Path) -> None:
    """Another secret than an upstream's key is referred to by settings of its own."""

    def refused(table: dict[str, object]) -> str:
        with pytest.raises(SecretError) as caught:
            resolve(table, {"EMPTY": ""}, "redis_password", "the password of Redis")
        return str(caught.value)

    assert "set exactly one of redis_password_env and redis_password_file" in refused({})
    assert "set it to the password of Redis" in refused({"redis_password_env": "EMPTY"})
    assert 'redis_password_env = "ITS_NAME"' in refused({"redis_password": "geheim"})
    (tmp_path / "password").write_text("two words")
    assert "must hold the password alone" in refused({"redis_password_file": str(tmp_path / "password")})


@pytest.mark.parametrize(
    "secret",
    ["", "whsec_", "whsec_c2hvcnQ=", "not base64!", "whsec_" + "A" * 88, "A" * 31, "whsec_whsec_" + "A" * 32],
)
def test_what_webhooks_can_not_be_signed_with_is_told_with_how_to_make_it(secret: str) -> None:
    with pytest.raises(ValueError, match="openssl rand -base64 32") as caught:
        webhook_key(secret)
    assert "AAA" not in str(caught.value)


@pytest.mark.parametrize(("length", "bytes_"), [(32, 24), (44, 32)])
def test_a_secret_of_webhooks_is_base64_with_its_prefix_or_without(length: int, bytes_: int) -> None:
    padded = "A" * (length - 1) + ("A" if length % 4 == 0 and bytes_ % 3 == 0 else "=")
    assert webhook_key(f"whsec_{padded}") == webhook_key(padded) == bytes(bytes_)
