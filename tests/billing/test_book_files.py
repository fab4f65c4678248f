"""A price book's file from elsewhere: taken whole, or refused with the place and the reason."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import tomllib
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from proxy.billing.book_files import book_of, read_book

ROOT = Path(__file__).parents[2]
TEXT = files("proxy.billing").joinpath("price_book.toml").read_text(encoding="utf-8")
FILE: dict[str, Any] = tomllib.loads(TEXT, parse_float=Decimal)


def test_the_packages_book_reads_the_same_as_json() -> None:
    """As which it is kept where it was taken: no rate, date or rule is lost on the way."""
    assert book_of(json.loads(json.dumps(FILE, default=str))) == read_book()
    assert book_of(tomllib.loads(TEXT)) == read_book()  # numbers as floats


@pytest.mark.parametrize(
    ("at", "value", "says"),
    [
        (("version",), "soon", "version"),
        (("timezone",), "UTC", "timezone"),
        (("colour",), "blue", "colour"),
        (("models",), {}, "models"),
        (("models", 0, "id"), "a model/../x", "id"),
        (("models", 0, "id"), FILE["models"][1]["id"], "twice"),
        (("models", 0, "price"), [], "price"),
        (("models", 0, "prices"), [], "prices"),
        (("models", 0, "images"), {"1K": 0}, "images"),
        (("models", 0, "images"), {"1K": "1120"}, "images"),
        (("models", 0, "sources"), ["hearsay"], "hearsay is not in the file"),
        (("models", 0, "assumptions"), ["A-HOPE"], "A-HOPE is not in the file"),
        (("models", 0, "long_above"), 200_000, "go together"),
        (("models", 0, "search_per"), "moon", "search_per"),
        (("models", 0, "prices", 0, "input_text"), -1, "-1 is not a rate"),
        (("models", 0, "prices", 0, "input_text"), "NaN", "NaN is not a rate"),
        (("models", 0, "prices", 0, "input_text"), "cheap", "not an amount"),
        (("models", 0, "prices", 0, "input_text"), "1e999999", "more than there is"),
        (("models", 0, "prices", 0, "input_text"), True, "input_text is not a number"),
        (("models", 0, "prices", 0, "input_text"), 1001, "more than 1,000 USD"),
        (("models", 0, "prices", 0, "input_text"), "0.0000000001", "nine decimal places"),
        (("models", 0, "prices", 0, "search_per_1000"), 1_000_001, "more than 1,000,000 USD"),
        (("models", 0, "prices", 0, "output_txt"), 1, "output_txt is no rate"),
        (("models", 0, "prices", 0, "flex"), {"search": 1}, "search is no rate"),
        (("models", 0, "prices", 0, "flex"), 3, "no table of rates"),
        (("models", 0, "prices", 0, "from"), "2026-12-01", "first row always held"),
        (("models", 0, "prices", 0, "from"), "tomorrow", "gemini-nano-banana-2.1"),
        (("models", 0, "prices", 0, "from"), 3, "no day"),
        (("models", 5, "prices", 1, "from"), None, "in order"),
        (("models", 5, "prices", 1), {"from": "2026-12-01", "input_text": 1}, "leaves out cached_text"),
        (("models", 0, "prices", 0), {"output_text": 1}, "no input_text"),
        (("aliases", 0, "model"), "gemini-nobodys", "gemini-nobodys is not in the file"),
        (("aliases", 0, "from"), "x", "aliases"),
        (("tiers", "flex"), 0, "flex is no tier"),
        (("tiers", "gold"), 2, "gold is no tier"),
        (("tiers", "flex"), "NaN", "tier"),
    ],
)
def test_a_file_with_one_mistake_is_refused_whole_and_says_where(at: tuple[Any, ...], value: Any, says: str) -> None:
    raw = copy.deepcopy(FILE)
    place: Any = raw
    for step in at[:-1]:
        place = place[step]
    place[at[-1]] = value
    with pytest.raises(ValueError, match=says):
        book_of(raw)


@pytest.mark.parametrize("raw", [None, [], "text", 3, {}])
def test_what_is_no_price_book_at_all_is_refused(raw: object) -> None:
    with pytest.raises(ValueError, match="not in the form of a price book"):
        book_of(raw)


FIRST_READ_BY_FOUR = """
import sys, threading
from proxy.billing import book_files
sys.setswitchinterval(1e-5)
together = threading.Barrier(4)
def read():
    together.wait()
    book_files.read_book.__wrapped__()
threads = [threading.Thread(target=read) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""


def test_several_threads_may_be_the_first_to_read_a_book() -> None:
    """As the checks of `doctor` are, which run side by side. It was a crash in two of three tries."""
    for _ in range(4):
        done = subprocess.run([sys.executable, "-c", FIRST_READ_BY_FOUR], capture_output=True, text=True, cwd=ROOT)
        assert (done.returncode, done.stderr) == (0, "")
