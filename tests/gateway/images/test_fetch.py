"""Pictures by URL: from public addresses alone, whatever names, redirects and hosts do; never for long, never much."""

from __future__ import annotations

import asyncio
import gzip
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from proxy.errors import CallerErred, Reason
from proxy.gateway.images import fetch
from proxy.gateway.images.fetch import ADDRESSES, AT_ONCE, LARGEST, Fetcher
from tests.certificates import Certificate, make_certificate
from tests.gateway.images.hosts import (
    NAME,
    Endless,
    Host,
    Names,
    answer,
    dripping,
    hints_for_ever,
    picture,
    redirect,
    silent,
)

IN_BETWEEN = 40 << 20
"""Bytes that two kernels and two TLS ends may hold, at most: a host counts them as sent."""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Certificate]:
    folder = tmp_path_factory.mktemp("certificates")
    authority = make_certificate(folder, "authority")
    names = {name: make_certificate(folder, name, issuer=authority) for name in (NAME, "other.example")}
    return {"authority": authority, **names}


@pytest.fixture
def names() -> Names:
    return Names()


@pytest.fixture
async def host(certificates: dict[str, Certificate]) -> AsyncIterator[Host]:
    served = Host(certificates)
    await served.start()
    yield served
    served.close()


@pytest.fixture
async def fetcher(certificates: dict[str, Certificate], names: Names) -> AsyncIterator[Fetcher]:
    made = Fetcher(names, cafile=str(certificates["authority"].path), loopback=True, within_s=60)
    yield made
    made.close()


async def refused(fetcher: Fetcher, url: str) -> str:
    """What the refusal says."""
    with pytest.raises(CallerErred) as raised:
        async with asyncio.timeout(60):
            await fetcher.fetch(url)
    assert raised.value.reason is Reason.BAD_REQUEST
    assert "data URL" in raised.value.message
    return raised.value.message


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("PNG", "image/png"),
        ("JPEG", "image/jpeg; charset=binary"),
        ("WEBP", "IMAGE/WEBP"),
        ("JPEG", "image/png"),
        ("PNG", "application/octet-stream"),
        ("PNG", "binary/octet-stream"),
    ],
)
async def test_a_picture_is_fetched_with_the_type_that_it_has(
    fetcher: Fetcher, host: Host, kind: str, said: str
) -> None:
    host.answers["/a"] = answer(picture(kind), said)
    assert await fetcher.fetch(host.url("/a")) == (picture(kind), f"image/{kind.lower()}")


async def test_a_host_is_told_what_is_wanted_and_nothing_of_us(
    fetcher: Fetcher, host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No proxy and no password of the environment, no cookie and no referrer of the host before."""
    (tmp_path / "netrc").write_text(f"machine {NAME} login somebody password secret\ndefault login a password b\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for variable in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    host.answers["/from"] = redirect("/a.png?x=1#part")
    host.answers["/a.png?x=1"] = answer(picture())
    await fetcher.fetch(host.url("/from"))
    for head, path in zip(host.requests, (b"/from", b"/a.png?x=1"), strict=True):
        first, *fields = head.lower().removesuffix(b"\r\n\r\n").split(b"\r\n")
        assert first == b"get %b http/1.1" % path
        assert {field.partition(b":")[0] for field in fields} == {
            b"host", b"accept", b"accept-encoding", b"user-agent", b"connection",
        }  # fmt: skip
        assert b"host: %b:%d" % (NAME.encode(), host.port) in fields
        assert b"accept-encoding: identity" in fields
    assert host.sni == [NAME, NAME]


async def test_what_was_checked_is_what_is_connected_to(fetcher: Fetcher, host: Host, names: Names) -> None:
    """A name that leads elsewhere the second time (DNS rebinding) isn't asked a second time."""
    names.known[NAME] = [["127.0.0.1"], ["10.0.0.1"]]
    await fetcher.fetch(host.url())
    assert names.asked == [NAME]
    assert host.accepted == 1
    assert "public" in await refused(fetcher, host.url())
    assert host.accepted == 1


async def test_a_name_is_checked_anew_after_a_redirect_to_itself(fetcher: Fetcher, host: Host, names: Names) -> None:
    names.known[NAME] = [["127.0.0.1"], ["169.254.169.254"]]
    host.answers["/from"] = redirect("/a.png", 307)
    assert "public" in await refused(fetcher, host.url("/from"))
    assert len(host.requests) == 1


@pytest.mark.parametrize(
    "bad", ["10.0.0.1", "::ffff:127.0.0.1", "fe80::1%eth0", "64:ff9b::7f00:1", "2002:7f00:1::", "::"]
)
async def test_one_address_of_ours_among_others_is_enough_to_refuse(
    fetcher: Fetcher, host: Host, names: Names, bad: str
) -> None:
    names.known[NAME] = [["127.0.0.1", bad]]
    await refused(fetcher, host.url())
    assert host.accepted == 0


async def test_this_machine_is_not_fetched_from(certificates: dict[str, Certificate], host: Host, names: Names) -> None:
    """As configured: without what the tests switch on."""
    fetcher = Fetcher(names, cafile=str(certificates["authority"].path))
    assert "port" in await refused(fetcher, host.url())
    for addresses in (["127.0.0.1"], ["::1"], ["::ffff:127.0.0.1"], ["0.0.0.0"], []):
        names.known[NAME] = [addresses]
        assert "public" in await refused(fetcher, f"https://{NAME}/a.png")
    assert "public" in await refused(fetcher, "https://nobody.example/a.png")
    assert host.accepted == 0
    fetcher.close()


HOSTS = (
    "2130706433", "0x7f000001", "0x7f.1", "127.1", "0177.0.0.1", "017700000001", "127.0.0.1", "127.0.0.1.", "[::1]",
    "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[fe80::1%25eth0]", "8.8.8.8", "localhost", "localhost.", "metadata", "",
    ".", "a..example", "pictures.example..", "-a.example", "a_b.example-", "pictures.0x7f", "pictures.1",
    "%31%32%37.0.0.1", "127\u30020\u30020\u30021", "\uff11\uff12\uff17.0.0.1", "\u2460\u2461\u2466.0.0.1",
    f"{'a' * 64}.example", "a." * 130 + "example",
)  # fmt: skip


@pytest.mark.parametrize("named", HOSTS)
async def test_a_host_must_have_a_full_name(fetcher: Fetcher, host: Host, names: Names, named: str) -> None:
    """However an address is written, it isn't even looked up."""
    await refused(fetcher, f"https://{named}:{host.port}/a.png")
    host.answers["/from"] = redirect(f"https://{named}:{host.port}/a.png")
    await refused(fetcher, host.url("/from"))
    assert names.asked == [NAME]
    assert host.accepted == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://pictures.example/a.png", "ftp://pictures.example/a.png", "file:///etc/passwd", "pictures.example/a.png",
        "//pictures.example/a.png", "https:pictures.example", "https:///a.png", "", " ", "gopher://pictures.example/",
        "https://user:secret@pictures.example/a.png", "https://user@pictures.example/a.png", "https://pictures.example:x/",
        "https://pictures.example\\@127.0.0.1/a.png", "https://pictures.example\r\nx: y/", "https://[pictures.example/",
        f"https://pictures.example/{'a' * 9000}", "https://pictures.example/\ud800",
    ],
)  # fmt: skip
async def test_a_url_must_be_plain_https(fetcher: Fetcher, names: Names, url: str) -> None:
    message = await refused(fetcher, url)
    assert "secret" not in message
    assert names.asked == []


async def test_plain_http_is_refused_after_a_redirect_too(fetcher: Fetcher, host: Host, names: Names) -> None:
    for number, to in enumerate(
        (f"http://{NAME}:{host.port}/a.png", f"https://a:b@{NAME}:{host.port}/a.png", "file:///a")
    ):
        host.answers[f"/{number}"] = redirect(to, 301)
        await refused(fetcher, host.url(f"/{number}"))
    assert len(host.requests) == len(names.asked) == 3


async def test_a_full_stop_after_a_name_is_not_sent(fetcher: Fetcher, host: Host) -> None:
    await fetcher.fetch(host.url(name=f"{NAME.upper()}."))
    assert host.sni == [NAME]
    assert b"host: %b:%d\r\n" % (NAME.encode(), host.port) in host.requests[0].lower()


async def test_three_redirects_are_followed_and_no_fourth(fetcher: Fetcher, host: Host, names: Names) -> None:
    for number in range(4):
        name = NAME if number % 2 else "other.example"
        host.answers[f"/{number}"] = redirect(host.url("/a.png" if number == 0 else f"/{number - 1}", name), 303)
    content, _ = await fetcher.fetch(host.url("/2"))
    assert content == picture()
    assert names.asked == [NAME, "other.example"] * 2
    assert host.sni == names.asked
    assert "redirects more" in await refused(fetcher, host.url("/3"))


async def test_a_loop_of_redirects_ends(fetcher: Fetcher, host: Host) -> None:
    host.answers["/loop"] = redirect("/loop", 308)
    host.answers["/nowhere"] = b"HTTP/1.1 302 Go\r\ncontent-length: 0\r\n\r\n"
    await refused(fetcher, host.url("/loop"))
    assert len(host.requests) == 4
    await refused(fetcher, host.url("/nowhere"))
    assert len(host.requests) == 8


@pytest.mark.parametrize("to", ["https://[::1/", "https://\x01", "https://" + "a" * 9000])
async def test_a_redirect_that_cannot_be_read_is_refused(fetcher: Fetcher, host: Host, to: str) -> None:
    host.answers["/from"] = redirect(to)
    await refused(fetcher, host.url("/from"))


async def test_a_certificate_must_be_of_the_name_and_of_an_authority(
    fetcher: Fetcher, host: Host, names: Names
) -> None:
    names.known["third.example"] = [["127.0.0.1"]]
    assert "certificate" in await refused(fetcher, host.url(name="third.example"))
    untrusting = Fetcher(names, loopback=True)
    assert "certificate" in await refused(untrusting, host.url())
    assert host.requests == []
    untrusting.close()


async def test_the_next_address_is_tried_where_one_does_not_answer(fetcher: Fetcher, host: Host, names: Names) -> None:
    names.known[NAME] = [["127.0.0.9", "127.0.0.1"]]
    assert (await fetcher.fetch(host.url()))[0] == picture()
    names.known[NAME] = [[*(f"127.0.0.{number}" for number in range(9, 9 + ADDRESSES)), "127.0.0.1"]]
    assert "connected" in await refused(fetcher, host.url())
    assert host.accepted == 1


@pytest.mark.parametrize("slow", [silent, dripping, hints_for_ever])
async def test_a_slow_host_is_left(
    certificates: dict[str, Certificate],
    host: Host,
    names: Names,
    slow: Callable[[asyncio.StreamWriter], Awaitable[None]],
) -> None:
    fetcher = Fetcher(names, cafile=str(certificates["authority"].path), loopback=True, within_s=1)
    host.answers["/slow"] = slow
    assert "took" in await refused(fetcher, host.url("/slow"))
    fetcher.close()


async def test_a_slow_handshake_and_a_slow_name_are_left(certificates: dict[str, Certificate], names: Names) -> None:
    door = socket.create_server(("127.0.0.1", 0))
    fetcher = Fetcher(names, loopback=True, within_s=60, connect_s=0.5)
    message = await refused(fetcher, f"https://{NAME}:{door.getsockname()[1]}/a.png")
    assert "connected" in message
    fetcher.close()
    door.close()

    async def never(_: str) -> list[str]:
        await asyncio.Event().wait()
        return []

    fetcher = Fetcher(never, within_s=0.5)
    assert "took" in await refused(fetcher, f"https://{NAME}/a.png")
    fetcher.close()


@pytest.mark.parametrize("framing", [b"", b"content-length: 99999999999\r\n", b"transfer-encoding: chunked\r\n"])
async def test_an_endless_body_is_left_at_the_bound(fetcher: Fetcher, host: Host, framing: bytes) -> None:
    piece = b"\x89PNG\r\n\x1a\n" + bytes(1 << 20)
    if b"chunked" in framing:
        piece = b"%x\r\n%b\r\n" % (len(piece), piece)
    endless = Endless(b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\n" + framing + b"\r\n", piece)
    host.answers["/endless"] = endless
    assert "larger than 20 MB" in await refused(fetcher, host.url("/endless"))
    async with asyncio.timeout(90):
        await endless.left.wait()
    assert endless.sent <= (0 if b"length" in framing else LARGEST) + IN_BETWEEN


async def test_a_length_beyond_the_bound_is_enough(fetcher: Fetcher, host: Host) -> None:
    async def promising(writer: asyncio.StreamWriter) -> None:
        writer.write(answer(b"").replace(b"length: 0", b"length: %d" % (LARGEST + 1)))
        await silent(writer)

    host.answers["/long"] = promising
    assert "larger than 20 MB" in await refused(fetcher, host.url("/long"))


async def test_no_more_is_read_of_what_is_no_picture(fetcher: Fetcher, host: Host) -> None:
    endless = Endless(b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\n\r\n", b"<html>" * 100_000)
    host.answers["/page"] = endless
    assert "no PNG" in await refused(fetcher, host.url("/page"))
    async with asyncio.timeout(30):
        await endless.left.wait()
    assert endless.sent <= IN_BETWEEN


async def test_a_head_without_end_is_left(fetcher: Fetcher, host: Host) -> None:
    endless = Endless(b"HTTP/1.1 200 OK\r\n", b"x: " + b"y" * 8000 + b"\r\n")
    host.answers["/head"] = endless
    await refused(fetcher, host.url("/head"))
    async with asyncio.timeout(30):
        await endless.left.wait()
    assert endless.sent <= IN_BETWEEN


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (answer(b"<html>", "text/html"), "text/html"),
        (answer(picture("GIF"), "image/gif"), "image/gif"),
        (answer(picture("GIF"), "image/png"), "no PNG"),
        (answer(b"<svg/>", "image/svg+xml"), "image/svg+xml"),
        (answer(b"", "image/png"), "no PNG"),
        (answer(b"\x89PNG", "image/png"), "no PNG"),
        (answer(b"RIFF1234WAVE" + bytes(99), "image/webp"), "no PNG"),
        (answer(gzip.compress(bytes(4 << 20)), "image/png", "content-encoding: gzip\r\n"), "compresses"),
        (answer(gzip.compress(picture()), "image/png", "content-encoding: br\r\n"), "compresses"),
        (answer(picture(), status="404 Not Found"), "404"),
        (answer(picture(), status="401 No", more='www-authenticate: Basic realm="x"\r\n'), "401"),
        (answer(picture(), status="206 Partial Content"), "206"),
        (answer(picture(), status="500 No"), "500"),
        (b"HTTP/1.1 304 Not Modified\r\n\r\n", "304"),
        (answer(picture())[:-9], "broke off"),
        (b"", "broke off"),
        (b"SSH-2.0-OpenSSH_9\r\n\r\n", "broke off"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab", "broke off"),
    ],
)
async def test_what_is_no_picture_is_refused_in_words_that_tell_it(
    fetcher: Fetcher, host: Host, said: bytes, words: str
) -> None:
    """A signed URL is a secret: no word of it but the host's name."""
    host.answers["/a?signature=s3cret"] = said
    message = await refused(fetcher, host.url("/a?signature=s3cret"))
    assert words in message
    assert NAME in message
    assert "s3cret" not in message


async def test_few_pictures_are_fetched_at_once(fetcher: Fetcher, host: Host, names: Names) -> None:
    together, open_now, begun = asyncio.Event(), 0, 0

    async def held(writer: asyncio.StreamWriter) -> None:
        nonlocal open_now, begun
        open_now += 1
        assert open_now <= AT_ONCE
        if open_now == AT_ONCE and not together.is_set():
            begun = len(names.asked)  # a fetch begins with a name
            together.set()
        await together.wait()
        open_now -= 1
        writer.write(answer(picture()))
        await writer.drain()

    host.answers["/held"] = held
    async with asyncio.timeout(60):
        await asyncio.gather(*(fetcher.fetch(host.url("/held")) for _ in range(3 * AT_ONCE)))
    assert begun == AT_ONCE
    assert len(names.asked) == 3 * AT_ONCE


async def test_names_are_looked_up_in_full_by_threads_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that names which are slow hold up no other look-up, and none is looked for in a domain of ours."""
    asked: list[tuple[str, str]] = []

    def getaddrinfo(name: str, *_: object, **__: object) -> list[object]:
        asked.append((name, threading.current_thread().name.rpartition("_")[0]))
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 0))]

    monkeypatch.setattr(fetch.socket, "getaddrinfo", getaddrinfo)
    fetcher = Fetcher()
    assert "public" in await refused(fetcher, "https://pictures.example/a.png")
    assert asked == [("pictures.example.", "fetched-names")]
    fetcher.close()
