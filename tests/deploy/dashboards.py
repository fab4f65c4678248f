"""Grafana's dashboards as tests read them: their panels, their queries as Grafana would ask them, their own format.

`python -m tests.deploy.dashboards` writes them as they are formatted, after an edit by hand or an export from Grafana.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.pages import ROOT

GRAFANA = ROOT / "deploy" / "grafana"
DASHBOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))
WIDTH = 160
VARIABLE = re.compile(r"\$\{?(\w+)(?::\w+)?\}?")


@dataclass(frozen=True)
class Question:
    """One query of a panel: an expression in which variables stand as they do in Grafana."""

    dashboard: str
    panel: str
    unit: str
    expr: str

    def __str__(self) -> str:
        return f"{self.dashboard}: {self.panel}"

    def as_asked(self, values: Mapping[str, str]) -> str:
        """With each variable's value in its place. Raises KeyError where it has none."""
        return VARIABLE.sub(lambda found: values[found[1]], self.expr)


def read(path: Path) -> dict[str, Any]:
    dashboard: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return dashboard


def questions(path: Path) -> Iterator[Question]:
    """Every query of a dashboard's panels."""
    for panel in read(path)["panels"]:
        for target in panel.get("targets", ()):
            name, unit = f"{panel['title']} {target['refId']}", panel["fieldConfig"]["defaults"]["unit"]
            yield Question(path.stem, name, unit, target["expr"])


def formatted(value: object, indent: str = "") -> str:
    """JSON in which what fits on a line stands on one, and nothing else does: short to read, and to compare."""
    line = json.dumps(value, ensure_ascii=False)
    if not indent or (len(indent) + len(line) > WIDTH and isinstance(value, dict | list)):
        deeper = indent + "  "
        if isinstance(value, dict):
            inner = [f"{json.dumps(key)}: {formatted(each, deeper)}" for key, each in value.items()]
        else:
            assert isinstance(value, list)
            inner = [formatted(each, deeper) for each in value]
        opening, closing = "{}" if isinstance(value, dict) else "[]"
        line = f"{opening}\n{deeper}" + f",\n{deeper}".join(inner) + f"\n{indent}{closing}"
    return line if indent else line + "\n"


if __name__ == "__main__":
    for written in DASHBOARDS:
        written.write_text(formatted(read(written)), "utf-8")
