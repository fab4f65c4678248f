"""The name that the operator configured is looked up, asked for in the handshake, and held against the certificate."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

from proxy.errors import Sent, UpstreamFailed
from proxy.upstreams.http11 import Http11Transport, tls_context
from proxy.upstreams.transport import Timeouts
from tests.certificates import make_certificate, server_context
from tests.transport.threaded import answering, threaded
from tests.upstreams.origin import post, read_all


class Resolving(asyncio.SelectorEventLoop):
    """A loop whose name service knows the tests' names."""

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:
        return await super().getaddrinfo("127.0.0.1" if host.endswith(".test") else host, port, **options)


def test_the_name_is_asked_for_and_checked_and_not_the_address(tmp_path: Path) -> None:
    authority = make_certificate(tmp_path, "authority.test")
    context, asked = server_context(make_certificate(tmp_path, "gemini.test", issuer=authority)), list[str | None]()
    context.sni_callback = lambda _object, name, _context: asked.append(name)

    async def call(port: int, name: str) -> bytes:
        transport = Http11Transport(f"https://{name}:{port}", ssl_context=tls_context(cafile=str(authority.path)))
        async with contextlib.aclosing(transport):
            return await read_all(await transport.send(post()))

    with threaded(answering(context)) as port, asyncio.Runner(loop_factory=Resolving) as runner:
        assert runner.run(call(port, "gemini.test")) == b"ok"
        with pytest.raises(UpstreamFailed, match="Hostname mismatch"):
            runner.run(call(port, "forged.test"))
    assert asked == ["gemini.test", "forged.test"]


class NeverResolving(asyncio.SelectorEventLoop):
    """A loop whose name service doesn't answer."""

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:
        await asyncio.Event().wait()


def test_a_name_service_that_does_not_answer_is_given_up_in_the_connect_phase() -> None:
    async def call() -> None:
        transport = Http11Transport("http://gemini.test", max_connections=1, timeouts=Timeouts(pool=0.05, connect=0.05))
        async with contextlib.aclosing(transport):
            await transport.send(post())

    with asyncio.Runner(loop_factory=NeverResolving) as runner:
        with pytest.raises(UpstreamFailed, match=r"no connection within 0.05 s \(connect\)") as caught:
            runner.run(call())
        assert caught.value.sent is Sent.NOTHING
