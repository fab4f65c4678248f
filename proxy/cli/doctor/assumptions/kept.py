"""Answers as they are kept: without the key, the number of the project, and the bytes of pictures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from proxy.billing.records import to_usd
from proxy.cli.doctor.assumptions.answers import Answer
from proxy.gemini import edits
from proxy.store.folders import write_file
from proxy.telemetry.redaction import redact

HEADERS = ("content-type", "date", "x-gemini-service-tier", "content-encoding")
"""Those of an answer that are kept."""
LONGEST = 2_000
"""Characters of a text that are kept: what is longer is media, or a signature of thoughts."""


def keep(folder: Path, answer: Answer, secret: str) -> None:
    """Writes what was asked, what was answered, and what would be charged for it. Raises OSError."""
    call = answer.call
    document = {
        "call": call.name,
        "operation": call.operation,
        "model": call.model,
        "asked": call.body,
        "status": answer.status or None,
        "problem": answer.problem or None,
        "headers": {name: answer.headers[name] for name in HEADERS if name in answer.headers},
        "answered": [_parsed(document, secret) for document in answer.documents or (answer.body,)],
        "charged": {"quantities": dict(answer.quantities), "cost_usd": cost(answer)},
    }
    _write(folder / f"{call.name}.json", _hidden(document, _hider(secret)))


def verdicts(folder: Path, document: dict[str, Any], secret: str) -> dict[str, Any]:
    """Writes what the answers tell. Returns it as written, without secrets. Raises OSError."""
    told: dict[str, Any] = _hidden(document, _hider(secret))
    _write(folder / "verdicts.json", told)
    return told


def cost(answer: Answer) -> str | None:
    """USD, by the answer's own usage; None where it has no usage or no price."""
    return None if not answer.quantities or answer.priced.cost is None else to_usd(answer.priced.cost)


def _write(path: Path, document: Any) -> None:
    write_file(path, json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def _parsed(document: bytes, secret: str) -> Any:
    document = edits.redact(document, secret.encode())
    try:
        return json.loads(document)
    except (ValueError, RecursionError):
        return document.decode(errors="replace")


def _hider(secret: str) -> Callable[[str], str]:
    """Takes out of a text the key, what has the shape of one, and the number of the project."""
    return lambda text: redact(edits.redact(text.encode(), secret.encode()).decode())


def _hidden(value: Any, hide: Callable[[str], str]) -> Any:
    """JSON whose texts are told: without secrets, and where they are long only how long."""
    if isinstance(value, dict):
        return {_hidden(name, hide): _hidden(item, hide) for name, item in value.items()}
    if isinstance(value, list):
        return [_hidden(item, hide) for item in value]
    if isinstance(value, str):
        return f"[{len(value)} characters]" if len(value) > LONGEST else hide(value)
    return value
