"""Base URLs and keys as people paste them."""

from __future__ import annotations

import pytest

from proxy.cli.image.target import GOOGLE, read
from proxy.cli.options import CommandError

OURS = "wb_" + "0" * 38
THEIRS = "AIza" + "x" * 35
AT_GOOGLE = f"https://{GOOGLE}"


@pytest.mark.parametrize(
    ("pasted", "taken", "left_out"),
    [
        ("http://h:8080", "http://h:8080", ""),
        (" http://h:8080/ ", "http://h:8080", ""),
        ("https://h/gemini", "https://h/gemini", ""),
        ("https://h/v1beta", "https://h", "/v1beta"),
        ("https://h/v1/", "https://h", "/v1"),
        ("https://h/v1beta/v1beta", "https://h", "/v1beta/v1beta"),
        ("https://h/openai/v1", "https://h", "/openai/v1"),
        ("https://h/v1beta/openai/", "https://h", "/v1beta/openai"),
        ("https://h/gemini/v1beta/models/m:generateContent", "https://h/gemini", "/v1beta/models/m:generateContent"),
        ("https://h/v1/images/generations", "https://h", "/v1/images/generations"),
        ("http://[::1]:8080/v1", "http://[::1]:8080", "/v1"),
    ],
)
def test_what_snippets_have_behind_a_base_url_is_left_out_and_that_is_said(
    pasted: str, taken: str, left_out: str
) -> None:
    target = read(pasted, OURS, {})
    assert (target.base_url, target.google) == (taken, False)
    assert target.note == (f"the base URL is taken without {left_out}: {taken}" if left_out else "")


@pytest.mark.parametrize(
    ("pasted", "says"),
    [
        ("nonsense", "write http:// or https:// before a host"),
        ("localhost:8080", "write http:// or https:// before a host"),
        ("http://", "write http:// or https:// before a host"),
        ("", "write http:// or https:// before a host"),
        ("ftp://h", "no ftp is spoken"),
        ("http://h:99999", "give a base URL such as"),
        ("http://[::1", "give a base URL such as"),
        ("http://h/?key=x", "leave out what stands before @ or behind"),
        ("http://me:secret@h", "leave out what stands before @ or behind"),
        ("https://us-central1-aiplatform.googleapis.com/v1/projects/p", "is Vertex AI's, another family of endpoints"),
        ("https://aiplatform.googleapis.com", "is Vertex AI's, another family of endpoints"),
        ("https://aistudio.google.com", "is a website for people: the Gemini API is at"),
        (f"http://{GOOGLE}", f"Google serves https only, and a key would cross unencrypted: write {AT_GOOGLE}"),
    ],
)
def test_what_can_be_no_base_url_is_refused_with_what_to_write(pasted: str, says: str) -> None:
    with pytest.raises(CommandError) as refused:
        read(pasted, THEIRS, {})
    assert says in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("base_url", "given", "environ", "key"),
    [
        ("http://h", OURS, {"WEIGHBRIDGE_KEY": "other"}, OURS),
        ("http://h", "", {"WEIGHBRIDGE_KEY": OURS, "GEMINI_API_KEY": THEIRS}, OURS),
        ("http://h", THEIRS, {}, THEIRS),
        (AT_GOOGLE, "", {"WEIGHBRIDGE_KEY": OURS, "GOOGLE_API_KEY": THEIRS}, THEIRS),
        (AT_GOOGLE, "", {"WEIGHBRIDGE_KEY": THEIRS}, THEIRS),
    ],
)
def test_the_key_is_taken_from_where_it_belongs(base_url: str, given: str, environ: dict[str, str], key: str) -> None:
    assert read(base_url, given, environ).key == key


@pytest.mark.parametrize(
    ("base_url", "given", "environ", "says"),
    [
        ("http://h", "", {"GEMINI_API_KEY": THEIRS}, "no key: give --key, or set WEIGHBRIDGE_KEY. `weighbridge key"),
        (AT_GOOGLE, "", {}, "no key: give --key, or set GEMINI_API_KEY. https://aistudio.google.com/apikey"),
        (AT_GOOGLE, OURS, {}, "Nothing was sent"),
        (AT_GOOGLE, "", {"WEIGHBRIDGE_KEY": OURS}, "Nothing was sent"),
        ("http://h", "wb_…", {}, "can't be one"),
        ("http://h", "a b", {}, "can't be one"),
    ],
)
def test_a_key_that_can_not_be_right_is_not_sent(base_url: str, given: str, environ: dict[str, str], says: str) -> None:
    with pytest.raises(CommandError) as refused:
        read(base_url, given, environ)
    assert says in str(refused.value)
    assert OURS not in str(refused.value)
