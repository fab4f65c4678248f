"""`weighbridge emulator`: the stand-in for the Gemini API alone."""

from __future__ import annotations

import asyncio
import json
import signal
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from proxy.cli import options
from proxy.cli.options import CommandError, JsonOption
from proxy.cli.output import line
from proxy.config.schema import base_url
from proxy.doors import Door
from proxy.emulator.account import Account
from proxy.emulator.app import DEFAULT_KEY, create_app
from proxy.resources import PortTaken, bind

_BODY = """{"contents":[{"parts":[{"text":"A red lorry on a weighbridge"}]}]}"""
_EXAMPLES = """\
The Gemini API is emulated at  {base}
API key                        {key}
What it billed                 {base}/emulator/account
The requests as they came      {base}/emulator/requests

A picture:
  curl -s {base}/v1beta/models/gemini-nano-banana-2.1:generateContent -H 'x-goog-api-key: {key}' \\
    -H 'content-type: application/json' -d '{body}' \\
    | jq -r '.candidates[0].content.parts[] | select(.inlineData) | .inlineData.data' | base64 --decode > lorry.jpg
A stream:
  curl -sN '{base}/v1beta/models/gemini-3.8-flash:streamGenerateContent?alt=sse' -H 'x-goog-api-key: {key}' \\
    -H 'content-type: application/json' -d '{body}'
What that was billed:
  curl -s {base}/emulator/account

Prompts may hold directives, such as [[status=429]] or [[delay=2]]: see docs/emulator.md. Ctrl-C ends it."""

_DRAIN_S = 1


app = options.alone()


@app.command()
def emulator(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0 takes a free one.", min=0, max=65535)] = 8090,
    key: Annotated[str, typer.Option(help="The API key it accepts.")] = DEFAULT_KEY,
    account: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Append what is billed to this file, as JSON lines.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Emulates the Gemini API on this machine: no Google key, no cost, pictures included."""
    try:
        books = Account(file=account)
    except OSError as error:
        raise CommandError(f"{account} can't be written: {error.strerror}. Try another file") from None
    with closing(books):
        try:
            listener = bind(host, port)
        except PortTaken as taken:
            raise CommandError(f"can't listen on {host}:{port} ({taken.__cause__}): try --port 0") from None
        base = base_url("http", *listener.getsockname()[:2])
        if as_json:
            line(json.dumps({"base_url": base, "key": key, "account_url": f"{base}/emulator/account"}))
        else:
            line(_EXAMPLES.format(base=base, key=key, body=_BODY))
        door = Door(create_app(keys={key}, account=books), listener, http="httptools")
        with listener, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(door))


async def _serve(door: Door) -> None:
    """Until SIGTERM or Ctrl-C."""
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, door.close, _DRAIN_S)
    await door.open_until_told()
