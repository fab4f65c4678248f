"""What deploy/Dockerfile says of the image: its last stage's instructions, as Docker keeps them."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field

from tests.pages import ROOT

FILE = ROOT / "deploy" / "Dockerfile"


@dataclass
class Stage:
    """A stage of it: what it stands on, and what a container of it is started with."""

    base: str
    user: str = ""
    folder: str = "/"
    volumes: list[str] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)
    copied: list[str] = field(default_factory=list)
    """Sources from the checkout."""
    runs: list[str] = field(default_factory=list)


def stages() -> list[Stage]:
    """All of them; the last one is the image."""
    text = re.sub(r"^\s*#.*\n", "", FILE.read_text("utf-8"), flags=re.MULTILINE)
    arguments: dict[str, str] = {}
    found: list[Stage] = []
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        instruction, _, rest = line.strip().partition(" ")
        if instruction == "ARG":
            name, _, value = rest.partition("=")
            arguments[name] = value
        elif instruction == "FROM":
            base = re.sub(r"\$\{(\w+)\}", lambda name: arguments[name[1]], rest.split()[0])
            found.append(Stage(base))
        elif instruction:
            _take(found[-1], instruction, rest)
    return found


def _take(stage: Stage, instruction: str, rest: str) -> None:
    match instruction:
        case "USER":
            stage.user = rest
        case "WORKDIR":
            stage.folder = rest
        case "VOLUME":
            stage.volumes += rest.split()
        case "EXPOSE":
            stage.ports += map(int, rest.split())
        case "RUN":
            stage.runs.append(rest)
        case "ENTRYPOINT":
            stage.entrypoint = json.loads(rest)
        case "CMD":
            stage.command = json.loads(rest)
        case "HEALTHCHECK":
            stage.health = json.loads(rest[rest.index("CMD ") + 4 :])
        case "ENV" | "LABEL":
            pairs = dict(pair.split("=", 1) for pair in shlex.split(rest))
            (stage.environment if instruction == "ENV" else stage.labels).update(pairs)
        case "COPY" if not rest.startswith("--from"):
            stage.copied += rest.split()[:-1]
        case "COPY":
            pass
        case _:
            raise AssertionError(f"{FILE.name} has {instruction}, which this doesn't read")
