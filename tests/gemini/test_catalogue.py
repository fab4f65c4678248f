"""Lists of models with aliases in them: a copied entry behind its model's, and every byte else as it came."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.gemini.catalogue import COMPATIBLE, listed, renamed

GOOGLES = b"""{
  "models": [
    {
      "name": "models/gemini-4-carbon",
      "baseModelId": "gemini-4-carbon",
      "description": "Says gemini-4-carbon \\u0026 more"
    },
    {
      "name": "models/gemini-4-argon"
    }
  ],
  "nextPageToken": "Ch"
}
"""


def test_an_alias_stands_right_behind_its_model_in_the_same_spacing() -> None:
    assert listed(GOOGLES, [("carbon", "gemini-4-carbon"), ("argon", "gemini-4-argon"), ("x", "gone")]) == (
        GOOGLES.replace(
            b'more"\n    },',
            b'more"\n    },\n'
            b"    {\n"
            b'      "name": "models/carbon",\n'
            b'      "baseModelId": "carbon",\n'
            b'      "description": "Says gemini-4-carbon \\u0026 more"\n'
            b"    },",
        ).replace(b'argon"\n    }', b'argon"\n    },\n    {\n      "name": "models/argon"\n    }')
    )


def test_several_aliases_of_a_model_stand_in_their_order() -> None:
    body = b'{"models":[{"name":"models/a"}]}'
    assert listed(body, [("c", "a"), ("b", "a")]) == (
        b'{"models":[{"name":"models/a"},{"name":"models/c"},{"name":"models/b"}]}'
    )


def test_an_alias_that_is_a_model_of_the_page_gets_no_entry_beside_that() -> None:
    assert listed(GOOGLES, [("gemini-4-argon", "gemini-4-carbon")]) == GOOGLES


@pytest.mark.parametrize("body", [b"{}", b'{"models":[]}', b'{ "models" : [ ] }', b'{"models":[{"displayName":"a"}]}'])
def test_a_page_without_the_model_crosses_as_it_is(body: bytes) -> None:
    assert listed(body, [("a", "b")]) == body


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"models":{}}',
        b'{"models":[1]}',
        b'{"models":[{"name":"models/b"}',
        b'{"models":[{"name":"models/b","name":"models/b"}]}',
        b'{"models":[],"models":[]}',
    ],
)
def test_what_is_no_page_of_models_is_told(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # json's own sentences, and ours
        listed(body, [("a", "b")])


def test_a_model_is_shown_under_the_name_that_was_asked_for() -> None:
    body = (
        rb'{ "name": "models\/gemini-4-argon" ,"baseModelId":"gemini-4-argon", "displayName": "gemini-4-argon"}' + b"\n"
    )
    assert renamed(body, "gemini-4-argon", "noble") == (
        rb'{ "name": "models\/noble" ,"baseModelId":"noble", "displayName": "gemini-4-argon"}' + b"\n"
    )
    assert renamed(b'{"name": "models/other"}', "gemini-4-argon", "noble") == b'{"name": "models/other"}'
    with pytest.raises(ValueError, match=r"^no . at 0$"):
        renamed(b"[]", "a", "b")


models = st.lists(
    st.builds(
        lambda name, rest: {"name": f"models/{name}", **rest},
        st.sampled_from(["a", "b", "c", "ä", "d"]),
        st.dictionaries(st.sampled_from(["x", "baseModelId", "ü"]), st.text(max_size=5) | st.integers()),
    ),
    unique_by=lambda model: model["name"],
    max_size=4,
)


@given(models, st.sampled_from([None, 1, 2]), st.booleans(), st.sampled_from(["", "\n", "  "]))
def test_a_list_with_aliases_is_what_the_upstream_would_have_written(
    offered: list[dict[str, Any]], indent: int | None, ascii_: bool, tail: str
) -> None:
    def written(models: list[dict[str, Any]]) -> bytes:
        page = {"before": 1, "models": models, "nextPageToken": "é"}
        return (json.dumps(page, indent=indent, ensure_ascii=ascii_, separators=(",", ": ")) + tail).encode()

    expected = []
    for model in offered:
        expected.append(model)
        for alias, use in (("e", "b"), ("f", "b"), ("c", "a")):
            if model["name"] == f"models/{use}" and all(f"models/{alias}" != each["name"] for each in offered):
                base = {"baseModelId": alias} if model.get("baseModelId") == use else {}
                expected.append({**model, "name": f"models/{alias}", **base})
    assert listed(written(offered), [("e", "b"), ("f", "b"), ("c", "a")]) == written(expected)


def test_the_compatibility_layers_list_is_edited_by_its_own_names() -> None:
    body = b'{"data": [{"id": "models/a", "object": "model"}, {"id":"b"}], "object": "list", "models": []}'
    entry = b'{"id": "models/a", "object": "model"}'
    edited = body.replace(entry, entry + b"," + entry.replace(b"/a", b"/c"))
    assert listed(body, [("c", "a"), ("d", "x")], COMPATIBLE) == edited
    assert renamed(entry, "a", "c", COMPATIBLE) == entry.replace(b"/a", b"/c")
