"""THE table of operations: what is served, where it stands, how it is metered, and whether it may be tried again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

_FORMAT = frozenset({"alt", "$alt", "prettyPrint", "$prettyPrint", "quotaUser"})
"""System parameters that neither hide the usage nor change what an error looks like.
https://docs.cloud.google.com/apis/docs/system-parameters"""

_PAGE = frozenset({"pageSize", "page_size", "pageToken", "page_token", "filter"})


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """One row of the table. Rows are compared by identity."""

    name: str
    """Google's name for it; what stands in the ledger and in metrics."""
    method: str
    """The HTTP method, in capitals."""
    path: str
    """The resource path without a version; `{model}` is one segment."""
    model: Literal["path", "none"]
    """Where the request names its model."""
    body: bool
    """Takes a JSON body."""
    metered: bool
    """Leaves a usage record; free operations leave none."""
    usage: bool
    """A 2xx response bears usageMetadata. Where it doesn't, the call is billed at its estimate."""
    images: bool
    """The response may hold images."""
    streaming: bool
    """The response comes as a stream: of events with `alt=sse`, else of the elements of one JSON array."""
    repeatable: bool
    """Another attempt may be made after this one went up: doing it twice costs and changes nothing."""
    parameters: frozenset[str] = _FORMAT
    """Query parameters that cross."""


def _metered(name: str, *, images: bool = False, streaming: bool = False) -> Operation:
    return Operation(
        name=name,
        method="POST",
        path=f"models/{{model}}:{name}",
        model="path",
        body=True,
        metered=True,
        usage=True,
        images=images,
        streaming=streaming,
        repeatable=False,
    )


def _free(
    name: str,
    method: str,
    path: str,
    *,
    body: bool = False,
    parameters: frozenset[str] = _FORMAT,
) -> Operation:
    return Operation(
        name=name,
        method=method,
        path=path,
        model="path" if "{model}" in path else "none",
        body=body,
        metered=False,
        usage=False,
        images=False,
        streaming=False,
        repeatable=True,
        parameters=parameters,
    )


OPERATIONS: tuple[Operation, ...] = (
    _metered("generateContent", images=True),
    _metered("streamGenerateContent", images=True, streaming=True),
    _metered("embedContent"),
    _metered("batchEmbedContents"),
    _free("countTokens", "POST", "models/{model}:countTokens", body=True),
    _free("models.list", "GET", "models", parameters=_FORMAT | _PAGE),
    _free("models.get", "GET", "models/{model}"),
)

_TABLE = {(operation.method, operation.path): operation for operation in OPERATIONS}


def find(method: str, path: str) -> tuple[Operation, str] | None:
    """The operation at a resource path without its version, and the model's segment as it stands there ("" for none).

    `path` is decoded and has no slash at either end: "models/gemini-3-pro-image:generateContent". The method's name
    stands after the last colon. The model is not checked: it may be empty, or hold a slash where a method follows.
    """
    shape, model = _shape(path)
    operation = _TABLE.get((method, shape))
    return (operation, model) if operation else None


def at(path: str) -> Operation | None:
    """The operation that stands at a resource path under whatever HTTP method."""
    shape, _ = _shape(path)
    return next((operation for operation in OPERATIONS if operation.path == shape), None)


def _shape(path: str) -> tuple[str, str]:
    collection, slash, rest = path.partition("/")
    name, colon, verb = rest.rpartition(":")
    if colon:
        return f"{collection}/{{model}}:{verb}", name
    if slash and "/" not in rest:
        return f"{collection}/{{model}}", rest
    return path, ""
