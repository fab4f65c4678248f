"""Answers about models are edited where they can be, and cross as they came where they can't."""

from __future__ import annotations

import gzip

import pytest

from proxy.errors import Reason, Sent, UpstreamFailed
from proxy.gateway import model_lists
from proxy.gemini.aliases import Aliases
from proxy.gemini.headers import Headers

pytestmark = pytest.mark.anyio

ALIASES = Aliases(lambda model: "new" if model == "old" else model, ["old"])
LIST = ALIASES.parse("GET", b"/v1beta/models", b"")
GET = ALIASES.parse("GET", b"/v1beta/models/old", b"")
PAGE = b'{"models":[{"name":"models/new"}]}'
EDITED = b'{"models":[{"name":"models/new"},{"name":"models/old"}]}'


class Comes:
    """A response that comes in these pieces, then breaks off or is complete."""

    def __init__(self, *pieces: bytes, status: int = 200, fields: Headers | None = None, breaks: bool = False) -> None:
        self.status = status
        length = [] if fields is not None else [(b"content-length", b"%d" % sum(map(len, pieces)))]
        self.headers = [(b"content-type", b"application/json"), *length, *(fields or [])]
        self.closed = False
        self._pieces = list(pieces)
        self._breaks = breaks

    @property
    def complete(self) -> bool:
        return not self._pieces and not self._breaks

    async def read(self) -> bytes:
        if not self._pieces and self._breaks:
            raise UpstreamFailed(Reason.UPSTREAM_UNREACHABLE, "it broke off", Sent.WHOLE)
        return self._pieces.pop(0) if self._pieces else b""

    def close(self) -> None:
        self.closed = True


async def passed(came: Comes, call: object = LIST) -> tuple[bytes, Headers]:
    """Body and headers, as the relay passes them on; what it must see of `complete` is checked."""
    response = await model_lists.by_alias(came, call, ALIASES)  # type: ignore[arg-type]
    pieces, complete = [], False
    while piece := await response.read():
        assert not (pieces and complete), "what is told to be the last piece is"
        complete = response.complete
        pieces.append(piece)
    assert response.complete
    assert response.status == came.status
    response.close()
    assert came.closed
    return b"".join(pieces), response.headers


async def test_a_list_is_edited_in_whatever_pieces_it_comes_and_its_length_mended() -> None:
    for pieces in ((PAGE,), (PAGE[:9], PAGE[9:]), tuple(PAGE[at : at + 1] for at in range(len(PAGE)))):
        body, fields = await passed(Comes(*pieces))
        assert body == EDITED
        assert dict(fields) == {b"content-type": b"application/json", b"content-length": b"%d" % len(EDITED)}


async def test_a_list_that_tells_no_length_tells_none_afterwards() -> None:
    body, fields = await passed(Comes(PAGE, fields=[]))
    assert (body, fields) == (EDITED, [(b"content-type", b"application/json")])


async def test_a_model_is_shown_as_the_alias_that_was_asked_for() -> None:
    assert (await passed(Comes(b'{"name":"models/new"}'), GET))[0] == b'{"name":"models/old"}'
    new = ALIASES.parse("GET", b"/v1beta/models/new", b"")
    assert (await passed(Comes(b'{"name":"models/new"}'), new))[0] == b'{"name":"models/new"}'


@pytest.mark.parametrize(
    "came",
    [
        lambda: Comes(gzip.compress(PAGE), fields=[(b"content-encoding", b"gzip")]),
        lambda: Comes(b"<html>", PAGE),
        lambda: Comes(b'{"models":', b"[" * 100_000),
        lambda: Comes(PAGE, b" " * model_lists.MAX_BODY, PAGE),
    ],
    ids=["coded", "no JSON", "deep", "too long"],
)
async def test_what_cannot_be_edited_crosses_as_it_came(came: object) -> None:
    straight: Comes = came()  # type: ignore[operator]
    expected = b"".join(straight._pieces), straight.headers
    assert await passed(came()) == expected  # type: ignore[operator]


@pytest.mark.parametrize(("status", "body"), [(404, b'{"error":{}}'), (204, b""), (304, b""), (200, b"")])
async def test_errors_and_empty_answers_cross_as_they_came(status: int, body: bytes) -> None:
    came = Comes(*([body] if body else []), status=status)
    assert await passed(came) == (body, came.headers)


async def test_other_operations_are_not_held() -> None:
    generate = ALIASES.parse("POST", b"/v1beta/models/old:countTokens", b"")
    came = Comes(PAGE)
    assert await model_lists.by_alias(came, generate, ALIASES) is came


async def test_a_list_that_breaks_off_is_told_before_anything_was_passed_on() -> None:
    with pytest.raises(UpstreamFailed):
        await model_lists.by_alias(Comes(PAGE, breaks=True), LIST, ALIASES)


async def test_the_compatibility_layers_lists_have_them_too() -> None:
    listing = ALIASES.parse("GET", b"/v1beta/openai/models", b"")
    getting = ALIASES.parse("GET", b"/v1beta/openai/models/old", b"")
    assert getting.target == b"/v1beta/openai/models/new"
    entry = b'{"id":"models/new"}'
    page = await model_lists.by_alias(Comes(b'{"data":[%b]}' % entry), listing, ALIASES)
    assert await page.read() == b'{"data":[%b,%b]}' % (entry, entry.replace(b"new", b"old"))
    model = await model_lists.by_alias(Comes(entry), getting, ALIASES)
    assert await model.read() == entry.replace(b"new", b"old")
