"""What the chart's values may be: its `config` is weighbridge.toml, and so is its schema, made of the program's own.

`make chart` writes it anew where settings have changed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from proxy.config.load import SECRETS
from proxy.config.schema import Settings

CHART = Path(__file__).parent.parent.parent / "deploy" / "helm" / "weighbridge"
FILE = CHART / "values.schema.json"
SAID_BY_THE_IMAGE = {"Server": ("host", "port", "admin_host", "admin_port"), "Storage": ("data_dir",)}
"""Settings that its environment has, which goes before the file."""
_LEFT_OUT = ("title", "description", "default", "format", "writeOnly")


def config() -> dict[str, Any]:
    """The schema of `config`."""
    whole = Settings.model_json_schema()
    for name, model in whole["$defs"].items():
        if "properties" in model:
            for said in (*SECRETS, *SAID_BY_THE_IMAGE.get(name, ())):
                model["properties"].pop(said, None)
            model["required"] = [setting for setting in model.get("required", ()) if setting not in SECRETS]
    whole["$defs"]["Upstream"]["properties"]["limits"] = {"type": "object"}  # proxy/config/quotas.py reads it
    made = _plain(whole, whole["$defs"])
    del made["$defs"]
    assert isinstance(made, dict)
    return made


def _plain(schema: Any, definitions: dict[str, Any]) -> Any:
    """A schema without what only documents it; what it refers to stands in the place of the reference."""
    if isinstance(schema, list):
        return [_plain(each, definitions) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if reference := schema.get("$ref"):
        return _plain(definitions[reference.rpartition("/")[2]], definitions)
    plain = {}
    for key, value in schema.items():
        if key == "properties":
            plain[key] = {name: _plain(each, definitions) for name, each in value.items()}
        elif key not in _LEFT_OUT and not (key == "required" and not value):
            plain[key] = _plain(value, definitions)
    return plain


def written() -> dict[str, Any]:
    made = json.loads(FILE.read_text("utf-8"))
    assert isinstance(made, dict)
    return made
