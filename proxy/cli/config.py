"""`weighbridge config`: check, show."""

from __future__ import annotations

import json as jsonlib
import os
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import typer
from pydantic import BaseModel, SecretStr

from proxy.cli import options, output
from proxy.cli.options import ConfigOption, JsonOption
from proxy.config.load import SECRETS, ConfigError, Loaded, read
from proxy.config.quotas import Quota

app = options.group("The configuration as it is read.")


@app.command()
def check(config: ConfigOption = None, json: JsonOption = False) -> None:
    """Say what is read from where, and every mistake in it at once. Ends with 1 if there is one.

    Example: `weighbridge config check --config /etc/weighbridge.toml`
    """
    loaded: Loaded | None = None
    problems: tuple[str, ...] = ()
    try:
        loaded = read(config, os.environ)
    except ConfigError as error:
        problems = error.problems
    warnings = loaded.warnings if loaded else ()
    if json:
        output.document({"ok": loaded is not None, "problems": list(problems), "warnings": list(warnings)})
    elif loaded:
        output.line(f"file: {loaded.file or 'none (built-in defaults)'}")
        for name, origin in loaded.origins.items():
            output.line(f"{name}: from {origin}")
        output.line("ok")
    if not json:
        for kind, sentences in (("warning", warnings), ("error", problems)):
            for sentence in sentences:
                typer.echo(f"{kind}: {sentence}", err=True)
    if problems:
        raise typer.Exit(1)


@app.command()
def show(config: ConfigOption = None, json: JsonOption = False) -> None:
    """Print the configuration in force, with the origin of each setting. Secrets are never shown.

    What is printed can be kept as weighbridge.toml.

    Example: `weighbridge config show`
    """
    loaded = read(config, os.environ)
    if json:
        settings = {name: _plain(getattr(loaded.settings, name)) for name in type(loaded.settings).model_fields}
        output.document(
            {"file": str(loaded.file) if loaded.file else None, "settings": settings, "origins": dict(loaded.origins)}
        )
        return
    for text in _toml(loaded):
        output.line(text)


def _toml(loaded: Loaded) -> Iterator[str]:
    """Line by line: name = value, and as a comment where it came from."""
    for section in type(loaded.settings).model_fields:
        value = getattr(loaded.settings, section)
        entries = [(f"[{section}]", section, value)]
        if isinstance(value, tuple):
            entries = [(f"[[{section}]]", f"{section}.{index}", entry) for index, entry in enumerate(value)]
        for head, prefix, model in entries:
            yield head
            for name, plain in _plain(model).items():
                origin = loaded.origins.get(f"{prefix}.{name}", "default")
                if name in SECRETS:
                    yield f"# {name}: {plain or 'not set'}"
                elif plain is None:
                    yield f"# {name} is not set"
                else:
                    yield f"{name} = {_literal(getattr(model, name, plain), plain)}  # {origin}"
            yield ""


def _literal(value: object, plain: Any) -> str:
    """A value in TOML's notation. Rates and dates are bare; a JSON string or list of strings is TOML, too."""
    return str(value) if isinstance(value, Decimal | Quota) else jsonlib.dumps(plain, ensure_ascii=False)


def _plain(value: object) -> Any:
    """What JSON can hold; in place of a secret, where it came from."""
    if isinstance(value, BaseModel):
        plain = {field.alias or name: _plain(getattr(value, name)) for name, field in type(value).model_fields.items()}
        for secret in SECRETS:
            if isinstance(getattr(value, secret, None), SecretStr):
                env, file = getattr(value, f"{secret}_env"), getattr(value, f"{secret}_file")
                plain[secret] = f"(set, from env {env})" if env else f"(set, from file {file})"
        return plain
    if isinstance(value, Quota):
        value = value.written()
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, tuple):
        return [_plain(entry) for entry in value]
    return value if value is None or isinstance(value, bool | int | float) else str(value)
