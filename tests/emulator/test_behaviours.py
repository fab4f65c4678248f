"""The little language, and its table in the docs."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from proxy.emulator.behaviours import DIRECTIVES, USAGES, Behaviour, parse, without_directives
from proxy.emulator.errors import NAMES, ApiError
from tests.emulator.conftest import Client

DOCS = (Path(__file__).parents[2] / "docs" / "emulator.md").read_text(encoding="utf-8")


def test_the_docs_have_the_table_of_the_code() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| `(\[\[.+?\]\])` \| (.+) \|$", DOCS, re.MULTILINE)
    assert rows == [(name, directive.example, directive.does) for name, directive in DIRECTIVES.items()]


def test_the_docs_name_every_status_and_every_way_to_spoil_usage() -> None:
    listed = re.search(r"`error-mid-stream` take (.+?)\. ", DOCS, re.DOTALL)
    assert listed is not None
    assert re.findall(r"`([^`]+)`", listed[1]) == sorted(NAMES)
    assert all(f"`{usage}`" in DOCS for usage in USAGES)


@pytest.mark.parametrize("name", DIRECTIVES)
def test_each_example_is_understood_and_changes_its_behaviour(name: str) -> None:
    asked = parse(["[[length]]" if name == "no-length" else "", DIRECTIVES[name].example])
    changed = {field.name for field in fields(Behaviour) if getattr(asked, field.name) != field.default}
    assert changed == (set() if name == "no-length" else {name.replace("-", "_")})


def test_several_directives_work_together_and_the_later_of_two_alike_holds() -> None:
    asked = parse(["[[delay=0.5]] a lorry [[chunks=3]]", "[[chunks=4]]"])
    assert (asked.delay, asked.chunks) == (0.5, 4)


@pytest.mark.parametrize(
    "text", ["[[nonsense]]", "[[delay]]", "[[delay=-1]]", "[[chunks=0]]", "[[gzip=1]]", "[[usage=x]]", "[[status=200]]"]
)
def test_what_it_does_not_understand_is_refused_by_name(text: str) -> None:
    with pytest.raises(ApiError) as raised:
        parse([text])
    assert raised.value.code == 400
    assert text.strip("[]").partition("=")[0] in raised.value.message


@pytest.mark.parametrize("text", ["[[1, 2], [3]]", "[[ -f x ]] && rm x", "[not=one]", "[[Capital]]"])
def test_brackets_of_other_languages_are_no_directives(text: str) -> None:
    assert parse([text]) == Behaviour()


def test_directives_are_not_part_of_what_is_answered() -> None:
    assert without_directives("[[delay=0]] a [[gzip]]lorry ") == "a lorry"


def test_only_the_last_content_and_the_system_instruction_direct(client: Client) -> None:
    def turn(role: str, text: str) -> dict[str, object]:
        return {"role": role, "parts": [{"text": text}]}

    history = [turn("user", "[[status=500]]"), turn("model", "no"), turn("user", "again")]
    assert client.ask("", contents=history).status_code == 200
    assert client.ask("hello", systemInstruction=turn("user", "[[status=503]]")).status_code == 503
