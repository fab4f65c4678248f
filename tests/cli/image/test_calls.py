"""What several pictures cost together, those that didn't come among them."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from proxy.cli.image import calls
from proxy.cli.image.calls import Made, Wish
from proxy.cli.image.target import Target
from proxy.cli.options import CommandError
from tests.servers import running

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

MODEL = "gemini-nano-banana-2.1"
DRAWN = {
    "candidates": [{"content": {"parts": [{"inlineData": {"mimeType": "image/png", "data": "AAAA"}}]}}],
    "usageMetadata": {
        "promptTokenCount": 10,
        "candidatesTokenCount": 1120,
        "totalTokenCount": 1130,
        "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1120}],
    },
}
WITHHELD = {
    "candidates": [{"finishReason": "IMAGE_SAFETY"}],
    "usageMetadata": {"promptTokenCount": 10, "thoughtsTokenCount": 200, "totalTokenCount": 210},
}


def test_a_picture_that_was_withheld_is_in_the_sum_with_what_it_cost() -> None:
    """Input and thoughts are billed. One that an error came for costs nothing."""
    answers: list[tuple[int, Any]] = [
        (200, DRAWN),
        (200, WITHHELD),
        (429, {"error": {"message": "No.", "status": "X"}}),
    ]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        status, answer = answers.pop()
        head = (b"content-type", b"application/json")
        await send({"type": "http.response.start", "status": status, "headers": [head]})
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})

    came: dict[int, Made | CommandError] = {}

    async def make(url: str) -> int | None:
        async with calls.client() as http:
            wish = Wish("A lorry", MODEL, n=3)
            return await calls.make_native(http, Target(url, "key", google=False), wish, came.__setitem__)

    with running(app) as url:
        cost = asyncio.run(make(url))
    made = [one.cost for one in came.values() if isinstance(one, Made)]
    assert (made, len(came)) == ([33_615_000], 3)  # 10 tokens at 1.5, 1120 at 30 USD per million
    assert cost == 33_615_000 + 10 * 1_500 + 200 * 7_500
