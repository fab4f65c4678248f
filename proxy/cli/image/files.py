"""Pictures as files: where each goes, and what is told of it."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

from PIL import Image

from proxy.billing.records import to_usd
from proxy.cli.image.calls import Made
from proxy.cli.options import CommandError

UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
"""What Pillow raises for what is no picture that it reads."""


def places(out: Path, n: int) -> list[Path]:
    """Where n pictures go: `lorry.png`, or `lorry-1.png`, `lorry-2.png` … Raises CommandError where one couldn't be
    saved, before it is paid for."""
    found = [out] if n == 1 else [out.with_name(f"{out.stem}-{number}{out.suffix}") for number in range(1, n + 1)]
    for path in found:
        check_place(path)
    return found


def check_place(path: Path) -> None:
    """Raises CommandError where the picture couldn't be saved, before it is paid for."""
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise CommandError(f"{path} can't be written: is its folder there, and may you write in it?")


def save(path: Path, content: bytes) -> Path:
    """Writes the picture. Raises CommandError."""
    try:
        path.write_bytes(content)
    except OSError as error:
        raise CommandError(f"{path} can't be written: {error.strerror}") from None
    return path


def describe(path: Path, made: Made) -> dict[str, Any]:
    """What is told of a picture, as JSON has it. Raises CommandError."""
    try:
        with Image.open(io.BytesIO(made.picture)) as opened:
            pixels, kind = opened.size, opened.format
    except UNREADABLE:
        raise CommandError(
            f"{path} was saved, but it is no picture that can be read: `file {path}` says what it is"
        ) from None
    return {
        "file": str(path),
        "bytes": len(made.picture),
        "format": kind,
        "width": pixels[0],
        "height": pixels[1],
        "model": made.model,
        "cost_usd": None if made.cost is None else to_usd(made.cost),
        "seconds": round(made.seconds, 1),
        "request_id": made.request_id,
        "hint": made.hint,
        "note": ending_note(path, kind or ""),
    }


def ending_note(path: Path, kind: str) -> str | None:
    """What is to be said where a file's name says another format than is in it: the upstream chooses that."""
    named = Image.registered_extensions().get(path.suffix.lower())
    if not path.suffix or named == kind:
        return None
    fitting = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp"}.get(kind, f".{kind.lower()}")
    return f"{path} holds a {kind}, whatever its ending says: mv {path} {path.with_suffix(fitting)}"


def sentence(told: dict[str, Any], *, price: bool = True) -> str:
    """A line about a picture. Without `price` where it is told of several together."""
    size = f"{told['bytes'] / 1000:,.0f} kB" if told["bytes"] < 1e6 else f"{told['bytes'] / 1e6:.1f} MB"
    line = (
        f"{told['file']}: {told['format']}, {told['width']} x {told['height']}, {size}; "
        f"{told['model']}, {told['seconds']} s"
    )
    return f"{line}, {dollars(told['cost_usd'])}" if price else line


def dollars(usd: str | None) -> str:
    return "no price known" if usd is None else f"${usd}"
