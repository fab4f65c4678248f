"""The admin token: where it comes from, who may read it, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.config.load import ConfigError
from proxy.control.admin import token

GIVEN = "a-token-of-the-operators"


def never(size: int) -> bytes:
    raise AssertionError("made where it was given")


def test_the_first_start_makes_a_token_that_only_its_user_can_read(tmp_path: Path) -> None:
    made = token.read_or_make(tmp_path, {}, lambda size: bytes(range(size)))

    assert made == token.PREFIX + bytes(range(32)).hex()
    assert (tmp_path / "admin-token").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "admin-token").read_text() == f"{made}\n"


def test_later_starts_and_commands_take_the_token_that_is_there(tmp_path: Path) -> None:
    made = token.read_or_make(tmp_path, {}, bytes)

    assert token.read_or_make(tmp_path, {}, never) == made
    assert token.read(tmp_path, {}) == made


def test_the_environment_goes_before_the_file_and_makes_none(tmp_path: Path) -> None:
    assert token.read_or_make(tmp_path, {token.VARIABLE: f" {GIVEN}\n"}, never) == GIVEN
    assert list(tmp_path.iterdir()) == []
    token.read_or_make(tmp_path, {token.VARIABLE: ""}, bytes)
    assert token.read(tmp_path, {token.VARIABLE: GIVEN}) == GIVEN


def test_a_command_makes_no_token(tmp_path: Path) -> None:
    assert token.read(tmp_path, {}) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o666])
def test_a_token_that_other_users_may_read_or_write_is_refused_with_what_to_do(tmp_path: Path, mode: int) -> None:
    made = token.read_or_make(tmp_path, {}, bytes)
    (tmp_path / "admin-token").chmod(mode)

    with pytest.raises(ConfigError, match=r"admin-token: every user.*remove the file") as caught:
        token.read(tmp_path, {})
    assert made not in str(caught.value)


def test_a_group_may_read_it_as_volumes_of_kubernetes_have_it(tmp_path: Path) -> None:
    made = token.read_or_make(tmp_path, {}, bytes)
    (tmp_path / "admin-token").chmod(0o660)

    assert token.read(tmp_path, {}) == made


@pytest.mark.parametrize("bad", ["short", "with a space in the middle", "ünlesbar-aber-lang-genug", "x" * 513])
def test_what_cannot_be_a_token_is_refused_and_not_shown(tmp_path: Path, bad: str) -> None:
    (tmp_path / "admin-token").touch(0o600)
    (tmp_path / "admin-token").write_text(bad)

    for environ, where in (({token.VARIABLE: bad}, "env WEIGHBRIDGE_ADMIN_TOKEN"), ({}, "admin-token: ")):
        with pytest.raises(ConfigError, match=where) as caught:
            token.read(tmp_path, environ)
        assert bad not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe"])
def test_a_file_without_a_token_is_not_overwritten(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "admin-token").touch(0o600)
    (tmp_path / "admin-token").write_bytes(content)

    with pytest.raises(ConfigError, match="admin-token: "):
        token.read_or_make(tmp_path, {}, never)
    assert (tmp_path / "admin-token").read_bytes() == content


def test_where_it_cannot_be_kept_the_sentence_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"can't be kept: .*or set WEIGHBRIDGE_ADMIN_TOKEN"):
        token.read_or_make(tmp_path / "nowhere", {}, bytes)
