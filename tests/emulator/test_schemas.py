"""Values that fit a schema."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.emulator.schemas import example


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "OBJECT", "properties": {"plate": {"type": "STRING"}}}, {"plate": "plate"}),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 2}, [1, 1]),
        ({"type": "number", "minimum": 2.5}, 2.5),
        ({"type": "integer", "maximum": -4}, -4),
        ({"type": "BOOLEAN"}, True),
        ({"type": ["null", "string"], "minLength": 8}, "valuexxx"),
        ({"type": "string", "maxLength": 2}, "va"),
        ({"type": "string", "format": "date-time"}, "2026-01-31T12:00:00Z"),
        ({"enum": ["red", "blue"]}, "red"),
        ({"const": 7}, 7),
        ({"anyOf": [{"type": "null"}, {"type": "string"}]}, None),
        ({"properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"type": "boolean"}}}, {"a": True}),
        ({"$ref": "#/$defs/missing"}, None),
        ("not a schema", None),
    ],
)
def test_the_simplest_value_that_fits(schema: Any, value: Any) -> None:
    assert example(schema) == value


def test_a_schema_that_holds_itself_comes_to_an_end() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}}
    assert "next" in example({"$ref": "#/$defs/Node", "$defs": {"Node": node}})
