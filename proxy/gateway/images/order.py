"""A request for pictures taken in: what it asks for, the pictures that come with it, and the native body they make."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

from proxy.errors import CallerErred
from proxy.gateway.images import forms, pictures, requests, translate
from proxy.gateway.images.fetch import Fetcher
from proxy.gateway.images.forms import File
from proxy.gateway.images.requests import ImageRequest, Named, wrong
from proxy.gateway.images.sizes import Shape
from proxy.gateway.images.translate import Given
from proxy.gateway.intake import Body, Intake, Receive, declared_length
from proxy.gateway.looks import Looks
from proxy.gemini import headers
from proxy.gemini.headers import Headers

AT_ONCE = 64 * 1024
"""Bytes of a body that are read on the event loop: a prompt. What may hold pictures is read in a thread."""


class Order(NamedTuple):
    """What a client wants."""

    request: ImageRequest
    pictures: Sequence[File | Named] = ()
    mask: File | Named | None = None


class Orders:
    """Where requests are read, and made into native bodies."""

    def __init__(self, intake: Intake, fetcher: Fetcher | None) -> None:
        """Without a fetcher, no picture is taken by URL."""
        self._intake = intake
        self._fetcher = fetcher
        self._turns = Looks()

    async def take(self, project: str, came: Headers, receive: Receive, *, edits: bool) -> Order:
        """Waits for the request, and reads it. Raises Refusal, ClientGone."""
        content_type = next((value for name, value in came if name == b"content-type"), b"")
        form = content_type.lower().startswith(b"multipart/form-data")
        if not form:
            headers.require_json(came)
        with await self._intake.take(receive, project, declared_length(came)) as body:
            if body.length <= AT_ONCE and not body.spooled:
                return _read(body.view(), content_type if form else b"", edits=edits)
            async with self._turns.turn(project):
                return await asyncio.to_thread(lambda: _read(body.view(), content_type if form else b"", edits=edits))

    async def native_body(self, order: Order, project: str, shape: Shape) -> Body:
        """What goes up for each picture; the caller closes it. Raises Refusal."""
        given = [await self._content(one) for one in order.pictures]
        mask = None if order.mask is None else await self._content(order.mask)
        if given:
            async with self._turns.turn(project):
                content = await pictures.in_thread(_with_pictures, order, shape, given, mask)
        else:
            content = b"".join(translate.native_body(order.request, shape, [], None))
        body = self._intake.room(project)
        try:
            await body.add(content)  # in one piece, which is kept without a copy
            await body.flush()
        except BaseException:
            body.close()
            raise
        return body

    async def _content(self, one: File | Named) -> File | Named:
        """A picture of which the content is there. Raises CallerErred."""
        if not isinstance(one, Named) or not one.url:
            return one
        if self._fetcher is None:
            raise wrong(
                one.param,
                "Pictures are not fetched by URL here (images.fetch_urls is off). Send the picture itself: as a file, "
                "or as a data URL.",
            )
        try:
            content, _ = await self._fetcher.fetch(one.url)
        except CallerErred as error:
            error.param = one.param
            raise
        return File(one.param, content)


def _read(body: Any, form_type: bytes, *, edits: bool) -> Order:
    """Raises CallerErred. `form_type` is empty for JSON."""
    found: Sequence[File | Named]
    mask: File | Named | None
    if form_type:
        form = forms.parse(body, form_type)
        found = [file for file in form.files if file.param != "mask"]
        mask = requests.the_mask([file for file in form.files if file.param == "mask"])
        request = requests.read(form.fields, edits=edits, form=True)
    else:
        fields, found, mask = requests.read_json(body)
        request = requests.read(fields, edits=edits, form=False)
    if edits:
        requests.check_count(found, "image" if form_type else "images")
    elif found or mask:
        raise wrong("image", "images/generations takes no pictures: send them to POST /v1/images/edits.")
    return Order(request, found, mask)


def _with_pictures(order: Order, shape: Shape, given: Sequence[File | Named], mask: File | Named | None) -> bytes:
    """Checks the pictures, and puts them into a body. Raises CallerErred."""
    checked = [_checked(one) for one in given]
    masked = None
    if mask is not None:
        drawn = pictures.mask(_bytes(mask), checked[0][1])
        masked = Given("image/png", pictures.to_base64(drawn))
    return b"".join(translate.native_body(order.request, shape, [picture for picture, _ in checked], masked))


def _checked(one: File | Named) -> tuple[Given, pictures.Facts]:
    content = _bytes(one)
    facts = pictures.check(content, one.param)
    return Given(facts.media_type, one.raw if isinstance(one, Named) else pictures.to_base64(content)), facts


def _bytes(one: File | Named) -> bytes:
    if isinstance(one, File):
        return one.content
    try:
        return pictures.from_base64(one.raw)
    except pictures.Unsound as unsound:
        raise wrong(one.param, f"A picture {unsound}") from None
