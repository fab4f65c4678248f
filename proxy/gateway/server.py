"""uvicorn's HTTP/1.1 protocol with our bounds: small heads, refusals in Google's shape, breaking off that looks broken.

`gateway_protocol()` makes the class that goes into `uvicorn.Config(http=...)`; what an app is offered is in cycle.py.

What uvicorn does and this doesn't: websockets, access logs, root paths, default headers, lifespan state, its limit on
concurrency, and a search of each response header for control characters. Those headers are written by us or were
validated by the HTTP parser that read them from the upstream: neither lets a CR, LF or NUL through.
"""

from __future__ import annotations

import socket
import struct
from asyncio import Transport
from collections import deque
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Any

import httptools

from proxy.errors import CallerErred, Reason, Refusal
from proxy.gateway import heads
from proxy.gateway.clocks import Deadline, StallWatch
from proxy.gateway.cycle import Cycle
from proxy.gateway.heads import DEFAULT_BOUNDS, Bounds, Unacceptable
from proxy.gateway.keep_alive import KeepAlive
from proxy.gateway.slices import HEAD_STEPS, READ_AHEAD, SlicedProtocol

if TYPE_CHECKING:
    from uvicorn._types import HTTPScope

RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class GatewayProtocol(SlicedProtocol):
    """One client connection. After any error nothing further of it is parsed: never two requests out of one."""

    bounds = DEFAULT_BOUNDS
    kept: KeepAlive
    new_request_id: Callable[[], str]
    refused: Callable[[Refusal, str], object]
    active: Cycle | None
    """The request being answered; `cycle` is the one read last, `pipelined` holds those between."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # uvicorn lets data follow a request that said `connection: close`. We don't: it's nobody's request.
        self.parser.set_dangerous_leniencies(lenient_data_after_close=False)
        self.active = None
        self.pipelined: deque[Cycle] = deque()
        self.asgi: Any = {"version": self.asgi_version, "spec_version": "2.3"}
        self.skips_head = False
        self.head_bytes = 0
        self.unparsed_bytes = 0  # bytes fed to the parser since it last handed out a head, a body piece or an end
        self.body_come = 0  # bytes of a body since its time was last set
        self.final_response: bytes | None = None  # a refusal that waits for the answers before it
        self.owed = Deadline(self.loop, self._time_is_up)
        """Until when the client must have sent what it owes."""
        self.requests_left = self.kept.requests  # below 0: there is no end to them
        self.leave_place: Callable[[], object] | None = None
        """Called once the connection is lost: for who counts them."""

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.stall = StallWatch(self.loop, transport, self.bounds.stall_s, self._stalled, self.bounds.stall_bytes)
        # The kernel has room enough for a client that reads. Not 0: with TLS, uvloop pauses at `high`, not above it.
        transport.set_write_buffer_limits(high=1, low=0)
        self.owed.set(self.bounds.head_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self.connections.discard(self)
        if self.leave_place is not None:
            self.leave_place()
        self.discarding = True
        self.owed.cancel()
        self.stall.cancel()
        self.pipelined.clear()
        if self.active is not None:
            self.active.leave()
        self.active = self.cycle = self.parser = None  # type: ignore[assignment]

    def eof_received(self) -> None:
        """A client that closes its sending half counts as gone."""
        if self.active is not None:
            resets = self.active.until_close
            self.active.leave()
            self.break_off(reset=resets)
        else:
            self.close()

    def parse(self, data: bytes | memoryview) -> None:
        self.unparsed_bytes += len(data)
        try:
            self._feed(data)
            if self.unparsed_bytes > self.bounds.head_bytes:
                raise heads.too_large(self.bounds)
        except Unacceptable as unacceptable:
            self._refuse(unacceptable)

    def _feed(self, data: bytes | memoryview) -> None:
        while data and not self.discarding:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
            except httptools.HttpParserError as error:
                if self.discarding:
                    return
                if isinstance(error.__context__, Unacceptable):
                    raise error.__context__ from None
                if isinstance(error, httptools.HttpParserCallbackError):
                    raise
                raise Unacceptable(400, f"The request is not valid HTTP/1.1: {error}.") from None
            self._decline_upgrade()

    def _decline_upgrade(self) -> None:
        """Reads on as if no upgrade had been asked for.

        The parser takes whatever follows such a head for another protocol, a body included. So the body, where there is
        one, is read by a new parser, behind a head that says no more than how it is framed.
        """
        framing = heads.framing(self.headers)
        if framing is not None and self.cycle.more_body:
            self.skips_head = True
            self.parser = httptools.HttpRequestParser(self)
            self.parser.feed_data(b"POST / HTTP/1.1\r\n%b: %b\r\n\r\n" % framing)

    def on_message_begin(self) -> None:
        if self.skips_head:
            return
        if self.discarding or len(self.pipelined) >= self.bounds.pipelined:
            raise Unacceptable(400, "Too many requests were sent ahead of their responses. Wait for a response.")
        self.owed.clear()
        self.in_head = True
        self.head_bytes = 0
        self.url = b""
        self.headers = []

    def on_url(self, url: bytes) -> None:
        self.url += url
        if len(self.url) > self.bounds.target_bytes:
            raise Unacceptable(414, f"The request target is longer than {self.bounds.target_bytes} bytes.")

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.in_head:  # a trailer field
            self.steps += 1
            return
        self.head_bytes += len(name) + len(value) + 4
        if self.head_bytes > self.bounds.head_bytes or len(self.headers) >= self.bounds.head_fields:
            raise heads.too_large(self.bounds)
        self.headers.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        if self.skips_head:
            self.skips_head = False
            return
        self.in_head = False
        self.unparsed_bytes = 0
        self.steps += HEAD_STEPS
        self.owed.clear()
        version = self.parser.get_http_version()
        method = self.parser.get_method().decode("ascii")
        if self.head_bytes + len(self.url) + len(method) + 14 > self.bounds.head_bytes:
            raise heads.too_large(self.bounds)
        self.body_due = heads.check_framing(version, self.headers)
        target = heads.split_target(method, self.url)
        scope: HTTPScope = {
            "type": "http",
            "asgi": self.asgi,
            "http_version": version,
            "method": method,
            "scheme": self.scheme or "http",
            "path": target.path,
            "raw_path": target.raw_path,
            "query_string": target.query,
            "root_path": "",
            "headers": self.headers,
            "client": self.client,
            "server": self.server,
        }
        continues = version == "1.1" and heads.expects_continue(self.headers)
        self.requests_left -= 1
        keep_alive = version == "1.1" and self.requests_left != 0 and self.parser.should_keep_alive()
        self._begin(Cycle(self, scope, keep_alive=keep_alive, expects_continue=continues))

    def _begin(self, cycle: Cycle) -> None:
        self.cycle = cycle
        if self.active is None:
            self._answer(cycle)
        else:
            self.flow.pause_reading()
            self.pipelined.append(cycle)

    def _answer(self, cycle: Cycle) -> None:
        self.active = cycle
        task = self.loop.create_task(cycle.run_asgi(self.app))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def sated(self) -> bool:
        """A request waits for its turn, or a body for the app."""
        return bool(self.pipelined) or (self.cycle is not None and self.cycle.waiting_bytes > READ_AHEAD)

    def read_body(self) -> None:
        """The app wants more of the body: reads on after a pause, and gives the client time from now."""
        if self.owed.at == inf:
            self.read_on()
            self._give_time()

    def _give_time(self) -> None:
        self.body_come = 0
        self.owed.set(self.bounds.body_s)

    def on_body(self, body: bytes) -> None:
        self.unparsed_bytes = 0
        self.body_due -= len(body)
        self.body_come += len(body)
        self.steps += 1
        self.cycle.take(body)
        if self.cycle.waiting_bytes > READ_AHEAD:
            self.flow.pause_reading()

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade() and heads.framing(self.headers):
            return  # its body is still to come: _decline_upgrade
        self.unparsed_bytes = 0
        self.owed.clear()
        self.cycle.take_end()
        if self.cycle is self.active:
            self.flow.resume_reading()  # else nobody would see the client leave
        if not self.cycle.keep_alive:
            self.discarding = True

    def _refuse(self, unacceptable: Unacceptable) -> None:
        """Answers what can't be read as a request, when its turn has come."""
        self.discarding = True
        self.owed.clear()
        broken = self.cycle if self.cycle is not None and self.cycle.more_body else None
        request_id = self.new_request_id() if broken is None else broken.request_id
        if broken is not None:
            broken.told_of = True
        self.refused(unacceptable, request_id)
        response = heads.refusal(unacceptable, request_id)
        if self.active is None:
            self.end(response)
        elif broken is not self.active:
            if broken is not None:
                self.pipelined.pop()
            self.final_response = response
        elif broken.on_the_wire:
            broken.leave()
            self.break_off(reset=broken.until_close)
        else:
            self.end(response)
            broken.leave()

    def end(self, response: bytes = b"") -> None:
        """Writes `response` as this connection's last bytes, half-closes, and discards input for linger_s.

        So the client can read them before a reset.
        """
        self.discarding = True
        self.active = None
        if response:
            self.transport.write(response)
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        if self.transport.get_write_buffer_size():
            self.stall.begin()
        self.owed.set(self.bounds.linger_s)

    def close(self) -> None:
        """Closes once all is sent, or the client doesn't read it."""
        self.discarding = True
        self.active = None
        self.owed.clear()
        self.transport.close()
        if self.transport.get_write_buffer_size():
            self.stall.begin()

    def shutdown(self) -> None:
        """The door closes: what has been read is answered, and then this connection is closed."""
        if self.active is None:
            self.close()
        elif not self.in_head:
            self.cycle.keep_alive = False  # the last one's: those before it are answered, too
            self.discarding = self.discarding or not self.cycle.more_body

    def ends_here(self) -> bool:
        """Whether the answer that begins now is this connection's last, for the door is about to close.

        Nothing that comes after its request is read then.
        """
        if not self.kept.leaving or self.pipelined:
            return False
        self.discarding = True
        return True

    def break_off(self, *, reset: bool) -> None:
        """Closes in the midst of a response; with a reset where a plain close would look like its end."""
        if not reset:
            self.close()
            return
        self.discarding = True
        self.active = None
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.transport.abort()

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        cycle, self.active = self.active, None
        if cycle is None or self.transport.is_closing():
            return
        if not cycle.keep_alive:
            if cycle.more_body or (self.discarding and self.transport.can_write_eof()):
                self.end()  # also for who said `close`: what it sends all the same must not reset its answer away
            else:
                self.close()
        elif self.pipelined:
            self._answer(self.pipelined.popleft())
            if not self.pipelined:
                self.read_on()
        elif self.final_response is not None:
            self.end(self.final_response)
        else:
            self.read_on()
            if self.owed.at == inf:
                self.owed.set(self.bounds.head_s if self.in_head else self.kept.seconds)

    def expect_more(self) -> None:
        """Sets the deadline for what the client owes: the rest of a head, or the next byte of a body."""
        if self.discarding:
            return
        if self.in_head:
            if self.owed.at == inf and not self.pipelined:
                self.owed.set(self.bounds.head_s)
        elif self.cycle is not None and self.cycle.more_body:
            if self.flow.read_paused or self.cycle.waiting_for_100_continue:
                self.owed.clear()  # until `read_body`
            elif self.body_come >= self.bounds.body_bytes or self.owed.at == inf:
                self._give_time()

    def _time_is_up(self) -> None:
        if self.discarding:
            self.close()
        elif self.in_head:
            message = f"The request's head was not complete within {self.bounds.head_s:g} s."
            self._refuse(Unacceptable(408, message, Reason.REQUEST_TIMEOUT))
        elif self.cycle is not None and self.cycle.more_body:
            few = f"Less than {self.bounds.body_bytes} bytes" if self.body_come else "No byte"
            message = f"{few} of the request's body came for {self.bounds.body_s:g} s. Send the request again."
            self.cycle.fail_body(CallerErred(Reason.REQUEST_TIMEOUT, message))
        else:
            self.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.stall.begin()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self.stall.end()

    def _stalled(self) -> None:
        if self.active is not None:
            self.active.leave()
        self.break_off(reset=True)  # all of it may be in the kernel by now, but for its end


def gateway_protocol(
    new_request_id: Callable[[], str],
    refused: Callable[[Refusal, str], object],
    bounds: Bounds = DEFAULT_BOUNDS,
    kept: KeepAlive | None = None,
) -> type[GatewayProtocol]:
    """The class for `uvicorn.Config(http=...)`. `new_request_id` names every request, at its head's end.

    `refused` is called, on the loop, with each refusal that the app has no part in, and with the id that its answer
    bears: to count and log it. It must not raise. What the app's `receive` raises, the app answers.
    """
    made = {"new_request_id": staticmethod(new_request_id), "refused": staticmethod(refused), "bounds": bounds}
    return type("GatewayProtocol", (GatewayProtocol,), {**made, "kept": kept or KeepAlive()})
