"""Upstreams that answer what no upstream should: what the caller sees, what the ledger says, and who is out for it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from proxy.gemini.exhausted import LONGEST_S, UNTOLD_S
from tests.certificates import make_certificate, server_context
from tests.journeys.pooled import Pool, Upstream, pools, quota, response

HTML = b"<!doctype html><title>Not what you asked for</title>"


class Crosses(NamedTuple):
    """What an odd upstream says goes down as it came; or it is told in our words."""

    says: bytes
    status: int
    outcome: str
    estimated: bool = False
    tells: str = ""
    """The caller gets this in place of its words."""


class PassedBy(NamedTuple):
    """Another upstream is asked, and this one is out for so long, in seconds; 0: it isn't out yet."""

    says: bytes
    attempt: str
    seconds: float = 0


def page(status: int) -> bytes:
    return response(status, HTML, "text/html")


def odd_quota(details: object) -> bytes:
    return response(429, b'{"error": {"code": 429, "message": "No.", "details": %b}}' % str(details).encode())


CROSSES = {
    "html-200": Crosses(page(200), 200, "ok", estimated=True),
    "empty-200": Crosses(response(200, b""), 200, "ok", estimated=True),
    "html-400": Crosses(page(400), 400, "upstream_error"),
    "html-403": Crosses(page(403), 403, "upstream_error"),
    "html-500": Crosses(page(500), 500, "upstream_error"),
    "html-502": Crosses(page(502), 502, "upstream_error"),
    "redirect": Crosses(
        response(302, HTML, more="Location: http://127.0.0.1:1/\r\n"), 502, "upstream_error", tells="redirect (302)"
    ),
    "too-long": Crosses(response(500, b"x" * 200_000), 502, "upstream_error", tells="more than 131072 bytes"),
    "cut": Crosses(page(500)[:-3], 502, "upstream_error", tells="closed the connection in the middle"),
}
PASSED_BY = {
    "html-401": PassedBy(page(401), "credential_refused", 60),
    "html-429": PassedBy(page(429), "rate_limited", UNTOLD_S),
    "empty-429": PassedBy(response(429, b""), "rate_limited", UNTOLD_S),
    "cut-429": PassedBy(quota("5s")[:-3], "rate_limited", UNTOLD_S),
    "details-are-a-string": PassedBy(odd_quota('"x"'), "rate_limited", UNTOLD_S),
    "details-of-anything": PassedBy(odd_quota('[1, null, "x", {"retryDelay": {}}]'), "rate_limited", UNTOLD_S),
    "wait-of-three-days": PassedBy(quota("259200s"), "rate_limited", LONGEST_S),
    "wait-that-is-negative": PassedBy(quota("-17s"), "rate_limited", UNTOLD_S),
    "wait-of-letters": PassedBy(quota("abc"), "rate_limited", UNTOLD_S),
    "deep-429": PassedBy(response(429, b"[" * 100_000), "rate_limited", UNTOLD_S),
    "html-503": PassedBy(page(503), "overloaded", 3),
    "expired-certificate": PassedBy(b"", "unreachable"),
    "another-hosts-certificate": PassedBy(b"", "unreachable"),
    "no-such-name": PassedBy(b"", "unreachable"),
}


@pytest.fixture(scope="module")
def all_pools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Pool]]:
    """One process. Each project has an odd upstream, and a good one that comes after it; those that end in -alone have
    only the odd one."""
    folder = tmp_path_factory.mktemp("odd")
    expired = make_certificate(folder, valid_from=-3, valid_until=-2)
    (folder / "others").mkdir()
    others = make_certificate(folder / "others", "other.example")
    bundle = folder / "bundle.pem"
    bundle.write_bytes(expired.path.read_bytes() + others.path.read_bytes())
    tls = {"expired-certificate": server_context(expired), "another-hosts-certificate": server_context(others)}
    more = {}
    made = {}
    for name, odd in (CROSSES | PASSED_BY).items():
        made[name] = Pool(name, [Upstream("odd", odd.says, tls.get(name)), Upstream("good")])
        made[f"{name}-alone"] = Pool(f"{name}-alone", [Upstream("odd", odd.says, tls.get(name))])
        if name == "no-such-name":
            more = {project: {"odd": {"base_url": "http://nowhere.invalid"}} for project in (name, f"{name}-alone")}
    for pool in made.values():
        pool.upstreams[0].hangs_up = pool.project.startswith("cut")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(bundle))
        with pools(folder, *made.values(), more=more):
            yield made


def content(says: bytes) -> bytes:
    return says.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize("alone", ["", "-alone"], ids=["", "alone"])
@pytest.mark.parametrize("name", CROSSES)
def test_what_says_nothing_of_the_upstream_is_the_answer(all_pools: dict[str, Pool], name: str, alone: str) -> None:
    """Nobody else is asked, and it is asked again."""
    odd, pool = CROSSES[name], all_pools[name + alone]
    for times in (1, 2):
        answer = pool.ask()
        assert answer.status_code == odd.status
        if odd.tells:
            assert answer.headers["x-weighbridge-refused"] == "UPSTREAM_UNREACHABLE"
            assert odd.tells in answer.json()["error"]["message"]
        else:
            assert answer.content == content(odd.says)
            assert "x-weighbridge-refused" not in answer.headers
        assert pool.counts()[0] == times
        record = pool.records()[-1]
        assert record.upstream == f"{pool.project}-odd"
        assert (record.outcome, record.estimated) == (odd.outcome, odd.estimated)
        assert bool(record.cost_usd) == odd.estimated, "by estimate, or nothing"
        assert pool.attempts()[-1] == ["odd answered"]
    assert sum(pool.counts()) == 2
    assert pool.log("upstream_out") == []


@pytest.mark.parametrize("name", PASSED_BY)
def test_one_that_is_out_or_not_there_is_not_noticed(all_pools: dict[str, Pool], name: str) -> None:
    odd, pool = PASSED_BY[name], all_pools[name]
    times, begun = 1 if odd.seconds else 3, time.monotonic()
    for _ in range(times):
        assert pool.ask().status_code == 200
    assert pool.attempts() == [[f"odd {odd.attempt}", "good answered"]] * times
    assert pool.ask().status_code == 200
    assert pool.attempts()[-1] == ["good answered"] or time.monotonic() > begun + 1, "an overload is over by then"
    if odd.attempt == "credential_refused":
        (line,) = pool.logged("upstream_credential_refused")
        assert line["checked_again_in_s"] == odd.seconds
    else:
        (line,) = pool.logged("upstream_out")
        assert line["why"] == odd.attempt
        bound = line["seconds"] <= odd.seconds if odd.attempt == "overloaded" else line["seconds"] == (odd.seconds or 5)
        assert bound
    assert [record.outcome for record in pool.records()] == ["ok"] * (times + 1)
    assert pool.billed() == pool.accounts()


@pytest.mark.parametrize("name", PASSED_BY)
def test_alone_it_is_what_the_caller_gets(all_pools: dict[str, Pool], name: str) -> None:
    """The upstream's own words, where they can be read and speak of it; and each call asks it."""
    odd, pool = PASSED_BY[name], all_pools[f"{name}-alone"]
    for times in (1, 2):
        answer = pool.ask()
        if odd.attempt == "unreachable":
            assert (answer.status_code, answer.headers["x-weighbridge-refused"]) == (502, "UPSTREAM_UNREACHABLE")
            assert "certificate" in answer.text or "name was not resolved" in answer.text
            assert pool.records() == [], "nothing went up"
            continue
        assert pool.counts() == [times]
        if name.startswith("cut"):
            assert (answer.status_code, answer.headers["x-weighbridge-refused"]) == (502, "UPSTREAM_UNREACHABLE")
        elif odd.attempt == "credential_refused":
            assert (answer.status_code, answer.headers["x-weighbridge-refused"]) == (502, "UPSTREAM_CREDENTIAL_REFUSED")
        else:
            assert (answer.status_code, answer.content) == (int(odd.says[9:12]), content(odd.says))
        record = pool.records()[-1]
        assert (record.outcome, record.cost_usd, record.http_status) == ("upstream_error", 0, int(odd.says[9:12]))
        assert pool.attempts()[-1] == [f"odd {odd.attempt}"]
