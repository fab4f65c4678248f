"""What a request body in OpenAI's shape holds beside text: pictures, sound, documents, and what its URLs lead to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from proxy.gemini import references
from proxy.gemini.references import fold

_FREE = frozenset(("tools", "functions", "responseformat", "metadata", "toolchoice", "functioncall"))
"""Members that hold whatever JSON the caller likes: a name in it says nothing."""
_EMPTIED = ";base64,"
"""How a data URL ends whose base64 was taken out of it."""


class Media(NamedTuple):
    """What there is of each kind."""

    pictures: int
    audio: int
    videos: int
    documents: int
    linked: bool
    """A URL on another host is among them, of whatever kind that is."""
    texts: bool
    """Something that was taken out for base64 may be text."""

    @property
    def unbounded(self) -> bool:
        """There is more to the prompt than text and pictures. What that weighs doesn't show in the body."""
        return bool(self.audio or self.videos or self.documents) or self.linked


def read(document: dict[str, Any], upstream_hosts: frozenset[str], left_out: int) -> Media:
    """Of a document that `references.parse` took, out of which the values of `left_out` data URLs were taken.

    Raises CallerErred RESOURCE_NOT_OWNED where it names a file that belongs to the upstream's credential.
    """
    kinds = {"image": 0, "audio": 0, "video": 0, "application": 0}
    linked = other = False
    emptied = 0
    for name, value in members([value for key, value in document.items() if fold(key) not in _FREE]):
        if name == "inputaudio" and isinstance(value, dict):
            kinds["audio"] += 1
            emptied += value.get("data") == ""
        elif name == "fileid" and value:
            raise references.not_owned("file_id")
        elif isinstance(value, str) and value and (name == "filedata" or name.endswith(("url", "uri"))):
            if value.startswith("data:"):
                kind = value[5:].partition("/")[0]
                other |= kind not in kinds
                kinds[kind] = kinds.get(kind, 0) + 1
                emptied += kind in kinds and value.endswith(_EMPTIED)
            elif name == "filedata":
                other = True
            elif references.crosses(value, upstream_hosts):
                linked = True
            else:
                raise references.not_owned(name)
    texts = other or (left_out > 0 and _emptied(document) > emptied)
    return Media(kinds["image"], kinds["audio"], kinds["video"], kinds["application"], linked, texts)


def members(values: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """Every member of every object in these values, its name folded. Elements of a list have the list's name."""
    held = [("", value) for value in values]
    while held:
        name, value = held.pop()
        if isinstance(value, dict):
            for key, member in value.items():
                folded = fold(key)
                yield folded, member
                held.append((folded, member))
        elif isinstance(value, list):
            for element in value:
                if name and not isinstance(element, dict):
                    yield name, element
                held.append((name, element))


def _emptied(document: dict[str, Any]) -> int:
    """How many values, and names, inline data may have been taken out of, wherever they stand."""
    count = 0
    held: list[Any] = [document]
    while held:
        value = held.pop()
        if isinstance(value, str):
            count += value.endswith(_EMPTIED)
        elif isinstance(value, dict):
            held += value.keys()
            held += [member for key, member in value.items() if key != "data" or member != ""]
            count += value.get("data") == ""
        elif isinstance(value, list):
            held += value
    return count
