"""A value that fits a schema, Gemini's (`type: "OBJECT"`) or JSON Schema: for JSON answers and function arguments."""

from __future__ import annotations

from typing import Any

_DEPTH = 12
_FORMATS = {
    "date": "2026-01-31",
    "date-time": "2026-01-31T12:00:00Z",
    "time": "12:00:00",
    "email": "someone@example.com",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def example(schema: Any, name: str = "value", root: Any = None, depth: int = _DEPTH) -> Any:
    """The simplest value that the schema allows, the same each time. Patterns aren't honoured; cycles end in null."""
    root = schema if root is None else root
    if not isinstance(schema, dict) or depth == 0:
        return None
    if isinstance(ref := schema.get("$ref"), str):
        return example(_resolved(ref, root), name, root, depth - 1)
    for literal in ("const", "default"):
        if literal in schema:
            return schema[literal]
    if choices := schema.get("enum"):
        return choices[0]
    for union in ("anyOf", "oneOf", "any_of"):
        if branches := schema.get(union):
            return example(branches[0], name, root, depth - 1)
    return _of_kind(_kind(schema), schema, name, root, depth)


def _kind(schema: dict[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    if kind is None:
        kind = "object" if "properties" in schema else "array" if "items" in schema else "string"
    return str(kind).lower()


def _of_kind(kind: str, schema: dict[str, Any], name: str, root: Any, depth: int) -> Any:
    if kind == "object":
        properties = schema.get("properties") or {}
        return {key: example(below, key, root, depth - 1) for key, below in properties.items()}
    if kind == "array":
        count = max(1, int(schema.get("minItems", schema.get("min_items", 1))))
        return [example(schema.get("items"), name, root, depth - 1) for _ in range(count)]
    if kind in ("integer", "number"):
        least = schema.get("minimum", min(1, schema.get("maximum", 1)))
        return int(least) if kind == "integer" else float(least)
    if kind == "boolean":
        return True
    if kind == "null":
        return None
    text = _FORMATS.get(str(schema.get("format")), name)
    text = text.ljust(int(schema.get("minLength", 0)), "x")
    return text[: int(schema.get("maxLength", len(text)))]


def _resolved(ref: str, root: Any) -> Any:
    found = root
    for step in ref.removeprefix("#").strip("/").split("/"):
        found = found.get(step) if isinstance(found, dict) else None
    return found
