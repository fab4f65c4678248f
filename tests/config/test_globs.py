"""Which globs of models are taken, and that they match as fnmatch does."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.globs import check_glob, is_glob, matcher


@pytest.mark.parametrize(
    "glob", ["*", "gemini-*-image", "gemini-3.8-flash", "gemini-[23].?-pro*", "tuned/x_1", "[!a-c]*", "a" * 100]
)
def test_an_id_or_a_glob_of_ids_is_taken_as_it_is(glob: str) -> None:
    assert check_glob(glob) == glob


@pytest.mark.parametrize(
    "glob",
    ["", " ", "a b", "gemini-é", "gemini,pro", "a\n", "[", "]", "[]", "[a", "a]", "[z-a]*", "{a,b}", "٣", "a" * 101],
)
def test_what_no_model_can_match_is_refused(glob: str) -> None:
    """It would be a limit that never counts, or a key that can call nothing."""
    with pytest.raises(ValueError, match="no model's id and no glob of such"):
        check_glob(glob)


def test_the_prefix_that_ids_have_on_the_wire_is_refused_with_a_word_about_it() -> None:
    with pytest.raises(ValueError, match="write it without models/"):
        check_glob("models/gemini-*")


def test_a_refusal_repeats_no_endless_text_and_no_control_character() -> None:
    with pytest.raises(ValueError, match="no model's id") as caught:
        check_glob("\x1b[31m" + "x" * 10_000)
    assert len(str(caught.value)) < 400
    assert "\x1b" not in str(caught.value)


MODELS = st.text("gemini-.3*[]\n", max_size=12)


WORDS = st.sampled_from(["*", "?", "[a-z]", "[!3]", "gemini", "-", ".", "3"])


@given(st.lists(WORDS, min_size=1, max_size=16).map("".join), MODELS)  # of six characters: no more than are taken
def test_a_glob_matches_what_fnmatch_matches(glob: str, model: str) -> None:
    assert bool(matcher(check_glob(glob))(model)) == fnmatchcase(model, glob)


def test_a_glob_is_compiled_once() -> None:
    assert matcher("gemini-*-compiled-once") is matcher("gemini-*-compiled-once")


@given(st.lists(WORDS, min_size=1, max_size=16).map("".join), MODELS)
def test_what_is_no_glob_matches_nothing_but_itself(text: str, model: str) -> None:
    assert is_glob(text) or bool(matcher(check_glob(text))(model)) == (model == text)
