"""What an upstream's settings say of the way there is what its transport does."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from pathlib import Path
from typing import Any

import pytest

from proxy.config.load import ConfigError
from proxy.config.schema import Settings
from proxy.config.upstreams import Upstream
from proxy.errors import Sent, UpstreamFailed
from proxy.upstreams.configured import open_pool, open_transport
from proxy.upstreams.http11 import Http11Transport
from proxy.upstreams.transport import Timeouts
from tests.certificates import make_certificate, server_context
from tests.upstreams.forward_proxy import forwarding
from tests.upstreams.origin import Peer, Security, post, read_all, serving
from tests.upstreams.steady import Steady

pytestmark = pytest.mark.anyio


def transport_for(url: str, **settings: Any) -> Http11Transport:
    upstream = Upstream.model_validate({"name": "odd", "base_url": url, "api_key": "k", **settings})
    return open_transport(upstream, Timeouts())


async def test_only_the_authorities_of_ca_file_are_trusted_and_the_clients_certificate_is_shown(tmp_path: Path) -> None:
    authority = make_certificate(tmp_path, "authority.test")
    ours = make_certificate(tmp_path, "client.test", issuer=authority)
    context = server_context(make_certificate(tmp_path, issuer=authority))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.path)
    shown: list[Any] = []

    async def script(peer: Peer) -> None:
        shown.append(peer.writer.get_extra_info("peercert")["subject"][0][0][1])
        await peer.answer()

    async with serving(script, Security(context, ssl.create_default_context())) as origin:
        trusting = {"ca_file": authority.path}
        showing = {"client_cert_file": ours.path, "client_key_file": ours.path}
        async with contextlib.aclosing(transport_for(origin.url, **trusting, **showing)) as transport:
            assert await read_all(await transport.send(post())) == b"ok"
        assert shown == ["client.test"]
        async with contextlib.aclosing(transport_for(origin.url, **showing)) as transport:
            with pytest.raises(UpstreamFailed, match="its certificate was refused") as caught:
                await transport.send(post())
            assert caught.value.sent is Sent.NOTHING
        async with contextlib.aclosing(transport_for(origin.url, **trusting)) as transport:
            with pytest.raises(UpstreamFailed):
                await transport.send(post())


async def test_calls_go_through_proxy_url_with_its_password() -> None:
    async def script(peer: Peer) -> None:
        await peer.answer()

    async with serving(script) as origin, forwarding() as proxy:
        through = {"proxy_url": proxy.url.replace("//", "//alice@"), "proxy_password": "x"}
        async with contextlib.aclosing(transport_for(origin.url, **through)) as transport:
            assert await read_all(await transport.send(post())) == b"ok"
        assert b"Basic YWxpY2U6eA==" in proxy.heads[0]


async def test_files_that_were_spoilt_since_the_configuration_was_read_are_a_mistake_in_it(tmp_path: Path) -> None:
    junk = tmp_path / "junk"
    junk.write_text("none")
    for settings in ({"ca_file": junk}, {"client_cert_file": junk, "client_key_file": junk}):
        with pytest.raises(ConfigError, match="upstream odd: its certificate files can't be used any more"):
            transport_for("https://up.test", **settings)


async def test_as_many_calls_are_under_way_at_once_as_the_settings_say() -> None:
    async def script(peer: Peer) -> None:
        await peer.answer()
        await peer.gone()

    async with (
        serving(script) as origin,
        contextlib.aclosing(transport_for(origin.url, max_connections=1)) as transport,
    ):
        first = await transport.send(post())
        second = asyncio.get_running_loop().create_task(transport.send(post()))
        await asyncio.sleep(0)
        assert "1 waiting" in repr(transport)
        second.cancel()
        first.close()


async def test_an_upstream_that_a_reload_replaced_or_removed_is_a_former_one_and_one_that_stays_is_not() -> None:
    def settings(**keys: str) -> Settings:
        upstreams = [{"name": name, "base_url": "http://127.0.0.1:1", "api_key": key} for name, key in keys.items()]
        return Settings.model_validate({"upstreams": upstreams})

    before, after = settings(stays="k", renewed="old", removed="k"), settings(stays="k", renewed="new")
    health = Steady().health()
    was = open_pool(before, health)
    now = open_pool(after, health, (before, was))
    assert {one.name: one.former for one in was.upstreams} == {"stays": False, "renewed": True, "removed": True}
    assert not any(one.former for one in now.upstreams)


async def test_another_share_changes_nothing_of_the_way_and_of_what_is_known() -> None:
    def settings(**role: Any) -> Settings:
        one = {"name": "a", "base_url": "http://127.0.0.1:9", "api_key": "k", **role}
        return Settings.model_validate({"upstreams": [one]})

    before, health = settings(), Steady().health()
    was = open_pool(before, health)
    health.credential_refused("a")
    after = settings(weight=7, priority=1, models=["gemini-3*"], projects=["alice"], limits={"rpm": 5})
    now = open_pool(after, health, (before, was))
    (old,), (new,) = was.upstreams, now.upstreams
    assert (new.weight, new.priority, new.serves("gemini-3-pro", "bob")) == (7, 1, False)
    assert (new.transport, new.observed) == (old.transport, old.observed)
    assert not old.former
    assert not health.available("a")
    (another,) = open_pool(settings(max_connections=5), health, (after, now)).upstreams
    assert another.transport is not new.transport
    assert new.former
    assert health.available("a")
