"""Aliases: models that stand in for others, spliced into the path and the body of a call."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache

from proxy.gemini import calls, references, spans
from proxy.gemini.calls import Call
from proxy.gemini.edits import Splice

PREFIX = "models/"

_PREFIX_AS_WRITTEN = re.compile(r'"(?:\\u[0-9A-Fa-f]{4}|\\.|[^\\]){7}')
"""The quote and the prefix of a name that has it: PHP writes its slash as \\/."""


class Aliases:
    """All aliases of one configuration."""

    def __init__(self, used: Callable[[str], str], names: Iterable[str]) -> None:
        """`used` tells the model that a caller gets who asks for one; `names` are aliases that aren't globs. All are
        ids without "models/"."""
        self._used = lru_cache(maxsize=1024)(used)
        self.offered = tuple((name, self.used(name)) for name in names)
        """What callers may ask for by name beside the upstream's own models: each with the model that they get."""

    def used(self, model: str) -> str:
        """The model that a caller gets who asks for `model`, which may be that itself."""
        # Look-ups are kept, and a body may name anything: what bounds their number must bound their size.
        return self._used(model) if 0 < len(model) <= calls.MAX_MODEL else model

    def parse(self, method: str, raw_path: bytes, query: bytes) -> Call:
        """`calls.parse`, with an alias put in the path: every other byte of it is as it was. Raises what that does."""
        call = calls.parse(method, raw_path, query)
        asked = call.model
        use = self.used(asked)
        if use == asked:
            return call
        before, after = f"/{PREFIX}{asked}".encode(), f"/{PREFIX}{use}".encode()
        return Call(call.operation, use, call.target.replace(before, after, 1), call.framing, asked, hint=call.hint)

    def splices(self, text: bytes | bytearray, operation_name: str) -> Iterator[Splice]:
        """What is to be put in place of each alias that names a model in a document that `references.parse` took."""
        source = str(text, "latin-1")
        for span in references.model_spans(source, operation_name):
            named = spans.read(source, span)
            asked = named.removeprefix(PREFIX) if isinstance(named, str) else ""
            if (use := self.used(asked)) != asked:
                yield splice_of(source, span, use)


def splice_of(text: str, span: spans.Span, use: str) -> Splice:
    """Puts `use` in place of the id in the string at `span`: "ID", or "models/ID", whose prefix stays as it is."""
    start, end = span
    prefixed = spans.read(text, span).startswith(PREFIX) and _PREFIX_AS_WRITTEN.match(text, start)
    return Splice(prefixed.end() if prefixed else start + 1, end - 1, use.encode())
