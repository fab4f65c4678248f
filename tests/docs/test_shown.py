"""What is taken for the output that a page shows, and what isn't."""

from __future__ import annotations

import pytest

from tests.docs.shown import difference

SHOWN = """NAME   CALLS        USD
alice     25  0.0334305

Made 2026-11-21 21:11 UTC by cli:ann: key_TaFBPyzZgKVCDfNC, wb_qs9p…be0tj
"""
PRINTED = """NAME   CALLS  USD
alice      1   12

Made 2027-01-02 03:04 UTC by cli:root: key_0000000000000000, wb_01234567890123456789012345678901234567
"""


def test_other_numbers_times_ids_and_keys_are_as_shown() -> None:
    assert difference(SHOWN, PRINTED) == ""
    assert difference("", PRINTED) == "", "nothing is shown: nothing is said of it"


@pytest.mark.parametrize(
    ("word", "other"),
    [("CALLS", "COUNT"), ("alice", "bob"), ("UTC", "PST"), ("alice      1   12\n", ""), ("1   12", "-   12")],
)
def test_other_words_and_missing_lines_differ(word: str, other: str) -> None:
    assert difference(SHOWN, PRINTED.replace(word, other)).startswith("shown: ")


def test_a_line_that_is_not_shown_differs() -> None:
    """Wherever it is printed."""
    assert difference(SHOWN, PRINTED + "one more\n") == "printed, and not shown: one more"
    assert difference(SHOWN, "one more\n" + PRINTED).startswith("shown: ")


def test_an_ellipsis_stands_for_any_lines_and_for_anything_in_a_line() -> None:
    assert difference("first\n…\nlast, of … lines\n", "first\n2\n3\nlast, of four lines\n") == ""
    assert difference("first\n…\n", "first\n2\n") == ""
    assert difference("first\n…\nlast\n", "first\n2\n") == "shown:   last\nprinted: 2"
