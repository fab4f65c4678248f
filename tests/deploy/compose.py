"""docker-compose.yml as Compose reads it: variables filled in, profiles asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from tests.pages import ROOT

FILE = ROOT / "docker-compose.yml"
_VARIABLE = re.compile(r"\$(?:\$|\{(\w+)(?:(:?[-?])([^}]*))?\})")

Service = dict[str, Any]
VERBS = ("up", "stop", "exec", "run", "rm", "build", "cp")


class MissingVariable(Exception):
    """One that `${…:?}` asks for isn't set: Compose says so and does nothing."""


def filled_in(environ: Mapping[str, str]) -> dict[str, Any]:
    """The whole file, every variable of it: Compose does that before it looks which profile is asked for."""
    whole = _filled(yaml.safe_load(FILE.read_text("utf-8")), environ)
    assert isinstance(whole, dict)
    return whole


def _filled(value: Any, environ: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _filled(each, environ) for name, each in value.items()}
    if isinstance(value, list):
        return [_filled(each, environ) for each in value]
    return _VARIABLE.sub(lambda found: _value(found, environ), value) if isinstance(value, str) else value


def _value(found: re.Match[str], environ: Mapping[str, str]) -> str:
    name, how, word = found.groups()
    if name is None:
        return "$"
    value = environ.get(name)
    if value or (value is not None and not (how or "").startswith(":")):
        return value
    if how in (":?", "?"):
        raise MissingVariable(f"{name}: {word}")
    return word or ""


def services(environ: Mapping[str, str]) -> dict[str, Service]:
    found = filled_in(environ)["services"]
    assert isinstance(found, dict)
    return found


def variables() -> set[str]:
    """The names of all that it takes from .env."""
    lines = [line for line in FILE.read_text("utf-8").splitlines() if not line.lstrip().startswith("#")]
    return {found[1] for line in lines for found in _VARIABLE.finditer(line) if found[1]}


def in_profiles(whole: Mapping[str, Service], *profiles: str) -> dict[str, Service]:
    """Those that `up` starts with these profiles."""
    return {
        name: service
        for name, service in whole.items()
        if not service.get("profiles") or set(profiles).intersection(service["profiles"])
    }


def names_what_is_there(command: str, whole: Mapping[str, Service]) -> bool:
    """Whether each profile and service exists that a command (what stands behind `docker compose`) is about."""
    words = re.sub(r"\s#.*", "", command).split()
    profiles = [words[index + 1] for index, word in enumerate(words) if word == "--profile"]
    verb = next(index for index, word in enumerate(words) if word in VERBS)
    named = [word for word in words[verb + 1 :] if not word.startswith("-")]
    if words[verb] in ("exec", "run"):
        named = named[:1]
    elif words[verb] == "cp":
        named = [named[0].partition(":")[0]]
    known = {profile for service in whole.values() for profile in service.get("profiles", ())}
    return set(profiles) <= known and set(named) <= in_profiles(whole, *profiles).keys()


def as_command(test: list[str]) -> list[str]:
    """A health check's `test` as the container runs it."""
    assert test[0] in ("CMD", "CMD-SHELL"), test
    return test[1:] if test[0] == "CMD" else ["/bin/sh", "-c", *test[1:]]


def seconds(duration: str) -> float:
    """Compose's way of writing one, as far as it is used here."""
    assert duration.endswith("s"), duration
    return float(duration.removesuffix("s"))
