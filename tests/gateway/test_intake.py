"""Bodies taken in: what is kept where, what is refused when, and that all room is given back."""

from __future__ import annotations

import asyncio
import hashlib
import os
import resource
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from proxy.errors import CallerErred, ProxyRefused, Reason, Refusal
from proxy.gateway.intake import Body, ClientGone, Intake, Pool, Receive
from proxy.gemini import calls
from proxy.tenants.keys import Tenant
from tests.gateway.wire import door

pytestmark = pytest.mark.anyio

KIB, MIB = 1 << 10, 1 << 20
TENANT = Tenant("shop", "key-1", "till")
GENERATE = calls.parse("POST", b"/v1beta/models/gemini-3-pro-image:generateContent", b"")
LIST = calls.parse("GET", b"/v1beta/models", b"")


def comes(*pieces: bytes, then: str = "end") -> Receive:
    """ASGI's receive, of a client that sends these pieces and then ends, leaves, or says nothing more."""
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    if then == "end" and messages:
        messages[-1]["more_body"] = False
    elif then == "end":
        messages.append({"type": "http.request", "body": b"", "more_body": False})
    elif then == "leaves":
        messages.append({"type": "http.disconnect"})

    async def receive() -> dict[str, Any]:
        if not messages:
            await asyncio.Event().wait()
        return messages.pop(0)

    return receive


async def never() -> dict[str, Any]:
    raise AssertionError("the body was asked for")


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Intake]]:
    """Makes intakes, and sees at the end that they hold nothing any more and left nothing on the disk."""
    made: list[Intake] = []

    def make(**options: Any) -> Intake:
        made.append(Intake(tmp_path / "spool", **{"limit": 64 * MIB, "disk_kept_free": 0, **options}))
        return made[-1]

    yield make
    assert [(intake.memory.taken, intake.spool.taken) for intake in made] == [(0, 0)] * len(made)
    assert not any((tmp_path / "spool").glob("*"))


async def sent(body: Body) -> bytes:
    content = body.content
    if isinstance(content, AsyncIterator):
        return b"".join([piece async for piece in content])
    return bytes(content)


async def test_an_intake_under_another_limit_shares_the_room(make: Callable[..., Intake]) -> None:
    """A reload changes the limit; what all bodies may take together stays what it is."""
    intake = make(limit=4, memory_bytes=40)
    larger = intake.limited_to(8)
    with pytest.raises(CallerErred, match="which is 4 bytes"):
        await intake.take(comes(b"12345678"), "shop", None)
    with await larger.take(comes(b"12345678"), "shop", None) as body:
        assert intake.memory.taken == body.length == 8
    with pytest.raises(CallerErred, match="which is 8 bytes"):
        await larger.take(comes(b"123456789"), "shop", None)


async def test_a_body_in_one_piece_is_the_very_object_that_came(make: Callable[..., Intake]) -> None:
    piece = b'{"contents": []}'
    body = await make().take(comes(piece), "shop", len(piece))
    assert body.view() is piece
    assert body.content is piece
    assert body.length == len(piece)
    body.close()


@pytest.mark.parametrize("pieces", [[], [b""], [b"a", b"b", b""], [b"", b"a", b"b"], [os.urandom(MIB)] * 5])
@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_in_pieces_is_put_together(
    make: Callable[..., Intake], pieces: list[bytes], announced: bool
) -> None:
    intake = make()
    body = await intake.take(comes(*pieces), "shop", sum(map(len, pieces)) if announced else None)
    assert bytes(body.view()) == await sent(body) == b"".join(pieces)
    assert body.length == intake.memory.taken == sum(map(len, pieces))
    assert not body.spooled
    body.close()


async def test_what_is_only_announced_takes_no_memory(make: Callable[..., Intake]) -> None:
    """Eight announce 60 MiB and send 2 of them: they take less than 8 each, however large the pages are."""

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    intake, before = make(memory_bytes=512 * MIB), resident()
    loop = asyncio.get_running_loop()
    waiting = [
        loop.create_task(intake.take(comes(b"x" * MIB, b"x" * MIB, then="waits"), f"shop-{n}", 60 * MIB))
        for n in range(8)
    ]
    while intake.memory.taken < 16 * MIB:
        await asyncio.sleep(0)
    assert resident() - before < 8 * 8 * MIB
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("memory_bytes", [0, 2 * MIB, 5 * MIB])
async def test_beyond_the_projects_half_of_the_memory_a_body_goes_to_disk(
    make: Callable[..., Intake], memory_bytes: int, tmp_path: Path, announced: bool
) -> None:
    intake = make(memory_bytes=memory_bytes)
    pieces = [os.urandom(110_000 + n) for n in range(40)]
    body = await intake.take(comes(*pieces), "shop", sum(map(len, pieces)) if announced else None)
    assert body.spooled
    assert (intake.memory.taken, intake.spool.taken) == (0, body.length)
    assert body.view()[:] == b"".join(pieces)
    assert await sent(body) == b"".join(pieces)
    assert await sent(body) == b"".join(pieces), "a body can be sent again"
    assert list((tmp_path / "spool").iterdir()) == [], "the file is unlinked"
    assert (tmp_path / "spool").stat().st_mode & 0o777 == 0o700
    body.close()


async def test_one_project_leaves_half_of_the_memory_to_the_others(make: Callable[..., Intake]) -> None:
    intake = make(memory_bytes=2 * MIB)
    first = await intake.take(comes(bytes(MIB)), "shop", None)
    second = await intake.take(comes(bytes(KIB)), "shop", None)
    third = await intake.take(comes(bytes(MIB)), "bakery", None)
    assert [body.spooled for body in (first, second, third)] == [False, True, False]
    first.close()
    fourth = await intake.take(comes(bytes(MIB)), "shop", None)
    assert not fourth.spooled
    for body in (second, third, fourth):
        body.close()


@pytest.mark.parametrize(("declared", "receive"), [(65, never), (None, comes(b"a" * 64, b"a", then="silence"))])
async def test_a_body_over_the_limit_is_refused_as_soon_as_that_is_known(
    make: Callable[..., Intake], declared: int | None, receive: Receive
) -> None:
    with pytest.raises(CallerErred, match="64 bytes") as refused:
        await make(limit=64).take(receive, "shop", declared)
    assert refused.value.reason is Reason.REQUEST_TOO_LARGE


async def test_a_body_of_the_limit_is_taken(make: Callable[..., Intake]) -> None:
    (await make(limit=64).take(comes(b"a" * 63, b"a"), "shop", 64)).close()


@pytest.mark.parametrize("sent", [0, 3, 900 * KIB])
async def test_a_sender_that_falls_silent_is_refused_and_its_room_given_back(
    make: Callable[..., Intake], sent: int
) -> None:
    intake = make(memory_bytes=MIB)
    outcome: asyncio.Future[Refusal] = asyncio.get_running_loop().create_future()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await intake.take(receive, "shop", None)
        except Refusal as refusal:
            outcome.set_result(refusal)

    async with door(app, body_s=0.05) as gateway:
        connection = await gateway.connect()
        connection.writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % MIB + bytes(sent))
        assert (await outcome).reason is Reason.REQUEST_TIMEOUT
        assert (intake.memory.taken, intake.spool.taken) == (0, 0)


@pytest.mark.parametrize("memory_bytes", [0, MIB])
async def test_a_client_that_leaves_halfway_leaves_nothing_behind(
    make: Callable[..., Intake], memory_bytes: int
) -> None:
    with pytest.raises(ClientGone):
        await make(memory_bytes=memory_bytes).take(comes(b"abc", b"def", then="leaves"), "shop", 99)


async def test_a_call_that_is_cancelled_while_it_waits_gives_its_room_back(make: Callable[..., Intake]) -> None:
    intake = make()
    taking = asyncio.get_running_loop().create_task(intake.take(comes(b"abc", then="silence"), "shop", None))
    while not intake.memory.taken:
        await asyncio.sleep(0)
    taking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking


@pytest.mark.parametrize("spool_bytes", [0, 500 * KIB, 2 * MIB])
async def test_where_the_spools_quota_is_used_up_the_body_is_refused(
    make: Callable[..., Intake], spool_bytes: int
) -> None:
    with pytest.raises(ProxyRefused, match="no room") as refused:
        await make(memory_bytes=MIB, spool_bytes=spool_bytes).take(comes(*[bytes(300 * KIB)] * 5), "shop", None)
    assert refused.value.reason is Reason.STORE_UNAVAILABLE


async def test_where_the_disk_would_be_too_full_for_others_the_body_is_refused(
    make: Callable[..., Intake], tmp_path: Path
) -> None:
    disk = os.statvfs(tmp_path)
    intake = make(memory_bytes=MIB, disk_kept_free=disk.f_blocks * disk.f_frsize)
    with pytest.raises(ProxyRefused, match="no room") as refused:
        await intake.take(comes(*[bytes(300 * KIB)] * 5), "shop", None)
    assert refused.value.reason is Reason.STORE_UNAVAILABLE
    with await intake.take(comes(b"short"), "shop", None) as body:
        assert not body.spooled


async def test_a_spool_directory_that_can_not_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "spool").write_bytes(b"not a directory")
    intake = Intake(tmp_path / "spool", limit=MIB, memory_bytes=0)
    with pytest.raises(ProxyRefused, match=r"disk .* \(File exists\)"):
        await intake.take(comes(b"abc", b"def"), "shop", None)
    assert (intake.memory.taken, intake.spool.taken) == (0, 0)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A file that grows beyond `size` fails as on a full disk; SIGXFSZ, which Python ignores, turns into EFBIG."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("allowed", [100 * KIB, 700 * KIB])
async def test_a_disk_that_takes_no_more_is_said_and_all_room_given_back(
    make: Callable[..., Intake], allowed: int
) -> None:
    with files_of_at_most(allowed), pytest.raises(ProxyRefused, match="File too large") as refused:
        await make(memory_bytes=MIB).take(comes(*[bytes(300 * KIB)] * 5), "shop", None)
    assert refused.value.reason is Reason.STORE_UNAVAILABLE


async def test_the_room_lasts_as_long_as_the_context(make: Callable[..., Intake]) -> None:
    intake = make()

    async def fails() -> None:
        with await intake.take_in(GENERATE, TENANT, [(b"content-length", b"3")], comes(b"abc")) as body:
            assert (body.view(), intake.memory.taken) == (b"abc", 3)
            raise KeyError

    with pytest.raises(KeyError):
        await fails()
    assert intake.memory.taken == 0


async def test_the_length_that_is_declared_is_held_against_the_limit(make: Callable[..., Intake]) -> None:
    with pytest.raises(CallerErred, match="larger"):
        await make(limit=2).take_in(GENERATE, TENANT, [(b"content-length", b"3")], never)


async def test_closing_early_and_again_does_no_harm(make: Callable[..., Intake]) -> None:
    intake = make()
    with await intake.take_in(GENERATE, TENANT, [(b"transfer-encoding", b"chunked")], comes(b"abc")) as body:
        body.close()
        assert intake.memory.taken == 0


@pytest.mark.parametrize("headers", [[], [(b"content-length", b"0")]])
async def test_an_operation_without_a_body_waits_for_none(make: Callable[..., Intake], headers: Any) -> None:
    with await make().take_in(LIST, TENANT, headers, never) as body:
        assert (body.length, body.view()) == (0, b"")


@pytest.mark.parametrize("headers", [[(b"content-length", b"2")], [(b"transfer-encoding", b"chunked")]])
async def test_a_body_where_none_belongs_is_refused(make: Callable[..., Intake], headers: Any) -> None:
    with pytest.raises(CallerErred, match=r"models\.list takes no request body"):
        await make().take_in(LIST, TENANT, headers, never)


def test_a_pool_is_never_overdrawn() -> None:
    pool = Pool(10)
    assert pool.reserve("a", 5)
    assert not pool.reserve("a", 1)
    assert pool.reserve("b", 3)
    assert not pool.reserve("c", 3)
    pool.release("a", 5)
    assert pool.reserve("c", 5)
    assert pool.taken == 8


@pytest.mark.parametrize("memory_bytes", [MIB, 64 * MIB])
async def test_from_a_socket_a_body_arrives_whole_in_memory_and_on_disk(
    make: Callable[..., Intake], memory_bytes: int
) -> None:
    intake = make(memory_bytes=memory_bytes)
    content = os.urandom(8 * MIB)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = []
        with await intake.take_in(GENERATE, TENANT, scope["headers"], receive) as body:
            digest = hashlib.sha256(body.view()).hexdigest().encode()
            headers.append((b"spooled", b"%d" % body.spooled))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": digest})

    async with door(app) as gateway:
        connection = await gateway.connect()
        head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(content)
        connection.writer.write(head + content)
        response = await connection.response()
    assert response.body == hashlib.sha256(content).hexdigest().encode()
    assert response.headers[b"spooled"] == (b"1" if memory_bytes == MIB else b"0")


async def test_a_client_that_leaves_its_body_unfinished_is_gone_for_the_intake(make: Callable[..., Intake]) -> None:
    intake = make()
    outcome: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await intake.take(receive, "shop", 9)
        except (ClientGone, Refusal) as error:
            outcome.set_result(error)

    async with door(app) as gateway:
        connection = await gateway.connect()
        connection.writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nabc")
        connection.writer.write_eof()
        assert isinstance(await outcome, ClientGone)
