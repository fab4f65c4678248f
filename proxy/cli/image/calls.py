"""The calls that bring pictures: in Gemini's shape one each, side by side; in OpenAI's one for all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import httpx2

from proxy.cli.image import advice, native, openai_shaped
from proxy.cli.image.target import Target
from proxy.cli.options import CommandError
from proxy.clock import unix_us

TIMEOUT = httpx2.Timeout(600, connect=30)
"""Seconds. A 4K picture may take minutes; Google's own bound is ten."""
HINT = "x-weighbridge-hint"


class Wish(NamedTuple):
    """What is to be drawn."""

    prompt: str
    model: str
    size: str | None = None
    aspect: str | None = None
    references: tuple[Path, ...] = ()
    n: int = 1


class Made(NamedTuple):
    """One picture. `cost` is nano-dollars; None where it isn't known, or, of several in one call, only their sum is."""

    picture: bytes
    model: str
    request_id: str | None
    cost: int | None
    seconds: float
    hint: str | None = None
    """What the proxy says of the request."""


class Undrawn(CommandError):
    """A whole answer without a picture, which is billed all the same. `cost` as of `Made`."""

    def __init__(self, why: str, cost: int | None) -> None:
        super().__init__(why)
        self.cost = cost


Came = Callable[[int, "Made | CommandError"], None]
"""Takes each picture, or why it didn't come, by its number, as soon as that is known."""


def client() -> httpx2.AsyncClient:
    """Where all calls go through. It follows no redirect: a key would go along."""
    return httpx2.AsyncClient(timeout=TIMEOUT)


async def make_native(http: httpx2.AsyncClient, target: Target, wish: Wish, came: Came) -> int | None:
    """n calls of generateContent, side by side. Returns what they cost together. Raises OSError."""

    async def one(number: int) -> int | None:
        try:
            made = await make_one(http, target, wish)
        except CommandError as error:
            came(number, error)
            return error.cost if isinstance(error, Undrawn) else 0
        came(number, made)
        return made.cost

    costs = await asyncio.gather(*map(one, range(wish.n)))
    return None if None in costs else sum(cost or 0 for cost in costs)


async def make_one(http: httpx2.AsyncClient, target: Target, wish: Wish) -> Made:
    """Makes one native call. Raises OSError; CommandError, which says why there is no picture and what to do."""
    body = native.request_body(wish.prompt, wish.size, wish.aspect, list(wish.references))
    path = f"/v1beta/models/{wish.model}:generateContent"
    began, began_at = time.monotonic(), unix_us()
    response, answer = await post(http, target, path, body, {"x-goog-api-key": target.key})
    if not answer.keys() & {"candidates", "promptFeedback"}:
        raise _other(target)
    seconds = time.monotonic() - began
    request_id = response.headers.get("x-weighbridge-request-id")
    spent, _ = await bill(http, target, request_id)
    if spent is None:
        spent = await asyncio.to_thread(native.cost, response.content, wish.model, wish.size, began_at)
    try:
        picture = native.picture(answer)
    except CommandError as error:
        raise Undrawn(str(error), spent) from None
    return Made(picture, answer.get("modelVersion", wish.model), request_id, spent, seconds, response.headers.get(HINT))


async def make_openai(http: httpx2.AsyncClient, target: Target, wish: Wish, came: Came) -> int | None:
    """One request for all. Returns what it cost. Raises OSError, CommandError."""
    references = list(wish.references)
    body = openai_shaped.request_body(wish.prompt, wish.model, wish.n, wish.size, wish.aspect, references)
    began = time.monotonic()
    bearer = {"authorization": f"Bearer {target.key}"}
    response, answer = await post(http, target, openai_shaped.path(references), body, bearer)
    if "data" not in answer:
        raise _other(target)
    seconds = time.monotonic() - began
    request_id = response.headers.get("x-weighbridge-request-id")
    spent, model = await bill(http, target, request_id)
    each, hint = spent if wish.n == 1 else None, response.headers.get(HINT)
    pictures = openai_shaped.pictures(answer)
    for number, picture in enumerate(pictures):
        came(number, Made(picture, model or wish.model, request_id, each, seconds, hint))
    for number, failure in enumerate(openai_shaped.failures(answer), len(pictures)):
        came(number, CommandError(failure))
    return spent


async def post(
    http: httpx2.AsyncClient, target: Target, path: str, body: dict[str, Any], credential: dict[str, str]
) -> tuple[httpx2.Response, dict[str, Any]]:
    """Sends a request; a 200 that is a JSON object. Raises CommandError."""
    try:
        response = await http.post(target.base_url + path, json=body, headers=credential)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise CommandError(advice.unreachable(target, error)) from None
    if response.is_redirect:
        where = response.headers.get("location", "elsewhere")
        raise CommandError(
            f"{target.base_url} answered {response.status_code} and sends to {where}: give that one's base URL, for "
            "a key isn't sent on by itself"
        )
    try:
        answer = response.json()
    except ValueError:
        raise CommandError(
            f"{target.base_url} answered {response.status_code} and no JSON: is it the right base URL? "
            "`weighbridge image --check` looks at everything"
        ) from None
    if response.status_code != 200:
        raise CommandError(advice.sentence(response, answer, target))
    if not isinstance(answer, dict):
        raise _other(target)
    return response, answer


async def bill(http: httpx2.AsyncClient, target: Target, request_id: str | None) -> tuple[int | None, str | None]:
    """What a request costs by a Weighbridge's ledger, in nano-dollars, and which model drew; None each where that can't
    be asked."""
    if request_id is None:
        return None, None
    with suppress(httpx2.HTTPError, ValueError, ArithmeticError, LookupError, TypeError):
        address = f"{target.base_url}/weighbridge/v1/calls/{request_id}"
        answer = await http.get(address, headers={"x-goog-api-key": target.key}, timeout=30)
        told = answer.json()
        return int(Decimal(told["cost_usd"]) * 1_000_000_000), str(told["records"][0]["model"])
    return None, None


def _other(target: Target) -> CommandError:
    return CommandError(
        f"{target.base_url} answered with other JSON than the Gemini API does: is it the right base URL?"
    )
