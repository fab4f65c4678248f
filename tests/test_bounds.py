"""docs/bounds.md has every bound as the code has it."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from typing import Any

import pytest

from proxy.config.schema import Settings
from proxy.config.upstreams import Upstream
from tests.pages import ROOT, table_of, text_of

BOUNDS = {name: row for name, row in table_of(text_of("docs/bounds.md")).items() if len(row) == 4}
UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "s": 1, "ms": 0.001, "": 1}
HELD = ("gateway", "upstreams", "limits", "gemini", "telemetry", "tenants", "store", "control")
"""Folders whose bounds must all be there."""
BOUND = re.compile(
    r"(MOST|MAX|LONGEST|LARGEST)(_\w+)?|REMEMBERED|KEPT|COUNTED|WINDOW|HANDSHAKES?(_S)?|FAREWELLS?(_S)?|([A-Z]+_)?AT_ONCE"
)


def in_code(name: str) -> Any:
    """The value of what the page calls so."""
    if " " not in name:
        section, _, field = name.partition(".")
        owner = Upstream if section == "upstreams" else type(getattr(Settings(), section))
        return owner.model_fields[field].default
    file, _, dotted = name.partition(" ")
    module = importlib.import_module("proxy." + file.removesuffix(".py").replace("/", "."))
    first, *rest = dotted.split(".")
    owner = getattr(module, first)
    if rest and isinstance(owner, type):
        return owner._field_defaults[rest[0]]  # type: ignore[attr-defined]
    return reduce(getattr, rest, owner)


@pytest.mark.parametrize("name", BOUNDS)
def test_a_bound_is_documented_as_it_is(name: str) -> None:
    _, shown, what, beyond = BOUNDS[name]
    found = re.fullmatch(r"([\d,]+)(?: (KiB|MiB|GiB|s|ms))?", shown)
    assert found is not None, shown
    told = int(found[1].replace(",", "")) * UNITS[found[2] or ""]
    assert told * (1000 if name.endswith("_MS") else 1) == in_code(name)
    assert what
    assert beyond


def in_force() -> Iterator[str]:
    """What the code calls a bound: by its name, on a module's top level."""
    for folder in HELD:
        for file in sorted((ROOT / "proxy" / folder).rglob("*.py")):
            for node in ast.parse(file.read_text("utf-8")).body:
                targets = (
                    node.targets
                    if isinstance(node, ast.Assign)
                    else [node.target]
                    if isinstance(node, ast.AnnAssign)
                    else []
                )
                for target in targets:
                    if isinstance(target, ast.Name) and BOUND.fullmatch(target.id):
                        yield f"{file.relative_to(ROOT / 'proxy')} {target.id}"
    heads: Any = importlib.import_module("proxy.gateway.heads")
    yield from (f"gateway/heads.py Bounds.{field}" for field in heads.Bounds._fields)


def test_no_bound_is_left_out() -> None:
    """Of what the data plane and the stores call one."""
    names = set(in_force())
    assert len(names) > 50
    assert sorted(names - BOUNDS.keys()) == []
    assert all(Path(ROOT / "proxy" / name.split()[0]).is_file() for name in BOUNDS if " " in name)
