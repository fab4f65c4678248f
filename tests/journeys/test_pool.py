"""A pool of upstreams that looks like one good one: who is asked, what callers see of it, and what the ledger says."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
from google import genai
from google.genai import types
from google.genai.errors import ClientError

from tests.certificates import make_certificate, server_context
from tests.journeys.pooled import BAD_KEY, KEY, OVERLOADED, Pool, Upstream, calling, error, pools, quota
from tests.journeys.watching import TEXT, body, connect, until

FOREIGN = error(403, "You do not have permission to access the File abc or it may not exist.")
COUNTS = f"{TEXT}countTokens"
STREAMS = f"{TEXT}streamGenerateContent"
OTHER = "/v1beta/models/gemini-3.1-pro-preview:generateContent"

DISABLED = error(403, "x", {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "SERVICE_DISABLED"})
UPSTREAMS = {
    "six-hundred": {"a": quota("17s"), "b": OVERLOADED, "c": b""},
    "back": {"a": quota("1s"), "b": b""},
    "weights": {"a": b"", "b": b"", "c": b""},
    "all-out": {"a": quota("90s"), "b": quota("60s"), "c": quota("90s")},
    "mixed": {"a": quota("60s"), "b": BAD_KEY},
    "keys": {"a": BAD_KEY, "b": error(401, "x"), "c": DISABLED, "d": b""},
    "bad-keys": {"a": BAD_KEY, "b": error(401, "x")},
    "foreign": {"a": FOREIGN, "b": b""},
    "alone": {"a": quota("17s")},
    "globs": {"a": b"", "b": b""},
    "nobody": {},
    "leaves": {"a": quota("17s"), "b": b""},
    "replay": {"a": quota("60s"), "b": b""},
    "cuts": {"a": b"", "b": b""},
    "dies": {"a": b"", "b": b""},
    "dies-in-tls": {"a": b"", "b": b""},
    "over": {"a": quota("1s"), "b": b""},
    "own-quota": {"a": b"", "b": b""},
}
"""What each upstream says, by project; nothing: content."""
SAME: dict[str, object] = {"priority": 0}
SETTINGS: dict[str, dict[str, dict[str, object]]] = {
    "six-hundred": {"a": SAME, "b": SAME, "c": SAME},
    "weights": {"a": {**SAME, "weight": 3}, "b": SAME, "c": {"priority": 9}},
    "foreign": {"a": SAME, "b": SAME},
    "globs": {"a": {"models": ["gemini-3.8-*"]}, "b": {"models": ["gemini-3.1-*"]}},
    "dies": {"a": SAME, "b": SAME},
    "dies-in-tls": {"a": SAME, "b": SAME},
    "over": {"a": SAME, "b": SAME},
    "own-quota": {"a": {"limits": {"rpm": 5}}, "b": {"limits": {"rpm": 7, "usd_per_10min": 1}}},
}


@pytest.fixture(scope="module")
def all_pools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Pool]]:
    """All in one process: a project sees its own upstreams only."""
    folder = tmp_path_factory.mktemp("pools")
    certificate = make_certificate(folder)
    tls = {"dies-in-tls": server_context(certificate)}
    made = {
        project: Pool(project, [Upstream(name, says, tls.get(project)) for name, says in upstreams.items()])
        for project, upstreams in UPSTREAMS.items()
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(certificate.path))
        with pools(folder, *made.values(), more=SETTINGS):
            yield made


@pytest.fixture
def pool(all_pools: dict[str, Pool], request: pytest.FixtureRequest) -> Pool:
    """The one that the test is marked with."""
    return all_pools[request.param]


def of(project: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("pool", [project], indirect=True, ids=[project])


@of("six-hundred")
def test_one_out_of_quota_and_one_overloaded_are_not_noticed_and_nothing_is_billed_twice(pool: Pool) -> None:
    """600 calls: all served, each billed once; the first isn't asked again until its 17 s are over."""
    a, b, _ = pool.upstreams
    until(lambda: pool.ask().status_code == 200 and all(pool.counts()), "each was asked once")
    out_since, begun = time.monotonic(), pool.counts()
    assert pool.ask_many(["x"] * 600) == [200] * 600
    assert all(asked.at >= a.asked[0].at + 17 for asked in a.asked[1:])
    assert all(asked.at >= out_since + 17 for asked in a.asked[begun[0] :])
    gaps = [later.at - earlier.at for earlier, later in zip(b.asked, b.asked[1:], strict=False)]
    assert all(gap >= 1.0 for gap in gaps), "one probe at a time, a second apart at least"
    assert pool.billed() == pool.accounts()
    assert len({id_ for _, id_ in pool.billed()}) == pool.counts()[2] == len(pool.records())
    failed_over = [attempts for attempts in pool.attempts() if len(attempts) > 1]
    assert Counter(attempt for attempts in failed_over for attempt in attempts[:-1]) == {
        "a rate_limited": len(a.asked),
        "b overloaded": len(b.asked),
    }


@of("back")
def test_a_returning_upstream_is_probed_by_one_call_and_then_serves_again(pool: Pool) -> None:
    """Its fallback serves only as long as it is out, and while the probe is under way."""
    a, _ = pool.upstreams
    assert pool.ask().status_code == 200
    out_until = a.asked[0].at + 1.0
    a.says = b""
    a.answers.clear()
    while time.monotonic() < out_until + 0.1:  # nothing tells when a cool-down is over
        time.sleep(0.05)
    with ThreadPoolExecutor(1) as thread:
        probe = thread.submit(pool.ask)
        until(lambda: len(a.asked) == 2, "the first call begun since is the probe")
        assert pool.ask_many(["x"] * 30) == [200] * 30
        assert all(asked.at >= a.asked[1].at + 5 for asked in a.asked[2:]), "the others wait for what it finds out"
        a.answers.set()
        assert probe.result().status_code == 200
    served = len(a.asked)
    assert pool.ask_many(["x"] * 10, at_once=1) == [200] * 10
    assert len(a.asked) == served + 10
    assert pool.billed() == pool.accounts()
    assert [(line["upstream"], line["why"]) for line in pool.logged("upstream_out")] == [("back-a", "rate_limited")]
    assert [line["upstream"] for line in pool.logged("upstream_back")] == ["back-a"]


@of("weights")
def test_calls_are_shared_by_weight_among_those_of_the_first_priority(pool: Pool) -> None:
    assert pool.ask_many(["x"] * 40) == [200] * 40
    assert pool.counts() == [30, 10, 0]


@of("all-out")
def test_where_all_are_out_of_quota_callers_get_the_shortest_wait_in_googles_words(pool: Pool) -> None:
    first = pool.ask()
    assert (first.status_code, first.content) == (429, quota("60s").partition(b"\r\n\r\n")[2])
    assert "x-weighbridge-refused" not in first.headers
    (record,) = pool.records()
    assert (record.upstream, record.http_status) == ("all-out-b", 429)
    assert (record.outcome, record.cost_usd) == ("upstream_error", 0)
    assert pool.attempts() == [["a rate_limited", "b rate_limited", "c rate_limited"]]
    for path in (f"{TEXT}generateContent", f"{STREAMS}?alt=sse", STREAMS):
        later = pool.ask(path=path)
        assert (later.status_code, later.headers["x-weighbridge-refused"]) == (429, "NO_UPSTREAM")
        said = later.json()[0] if path is STREAMS else later.json()
        delay = said["error"]["details"][1]["retryDelay"]
        assert 0 < float(delay.removesuffix("s")) < 60
        expected = json.loads(first.content.replace(b"60s", delay.encode()))
        assert said == expected, "but for the time that is left, what the upstream said"
    client = genai.Client(api_key=pool.key, http_options=types.HttpOptions(base_url=pool.stand.base_url))
    with client, pytest.raises(ClientError) as raised:
        client.models.generate_content(model="gemini-3.8-flash", contents="hi")
    assert (raised.value.code, "exceeded your current quota" in str(raised.value.message)) == (429, True)
    assert pool.counts() == [1, 1, 1], "nobody was asked again"
    assert len(pool.records()) == 1, "and nothing went up"


@of("mixed")
def test_where_all_are_out_but_not_all_of_quota_no_upstream_is_said(pool: Pool) -> None:
    assert pool.ask().status_code == 429
    later = pool.ask()
    assert (later.status_code, later.headers["x-weighbridge-refused"]) == (503, "NO_UPSTREAM")
    info = later.json()["error"]
    assert (info["status"], info["details"][0]["reason"]) == ("UNAVAILABLE", "NO_UPSTREAM")
    assert 0 < float(info["details"][1]["retryDelay"].removesuffix("s")) < 60
    assert pool.counts() == [1, 1]


@of("keys")
def test_a_bad_key_among_good_ones_is_noticed_by_the_operator_alone(pool: Pool) -> None:
    assert pool.ask_many(["x"] * 20, at_once=1) == [200] * 20
    assert pool.counts() == [1, 1, 1, 20]
    loud = pool.logged("upstream_credential_refused", 3)
    assert [(line["upstream"], line["level"]) for line in loud] == [(f"keys-{name}", "error") for name in "abc"]
    refused = [f"{name} credential_refused" for name in "abc"]
    assert pool.attempts() == [[*refused, "d answered"], *[["d answered"]] * 19]
    exported = [json.loads(line) for line in pool.stand.run("usage", "export", "--format", "jsonl").splitlines()]
    (told,) = [record for record in exported if record["project"] == "keys" and len(record["attempts"]) > 1]
    assert (told["upstream"], told["outcome"]) == ("keys-d", "ok")
    assert [list(attempt) for attempt in told["attempts"]] == [["upstream", "outcome", "ms"]] * 4
    assert [attempt["upstream"] for attempt in told["attempts"]] == [f"keys-{name}" for name in "abcd"]
    assert KEY not in pool.stand.log()


@of("bad-keys")
def test_where_every_key_is_bad_that_is_said_and_nobody_asked_for_a_while(pool: Pool) -> None:
    for _ in range(3):
        answer = pool.ask()
        assert (answer.status_code, answer.headers["x-weighbridge-refused"]) == (502, "UPSTREAM_CREDENTIAL_REFUSED")
        assert b"not yours" in answer.content
    assert pool.counts() == [1, 1]
    (record,) = pool.records()
    assert (record.outcome, record.cost_usd) == ("upstream_error", 0)


@of("foreign")
def test_a_403_that_is_not_about_the_credential_is_the_callers(pool: Pool) -> None:
    answers = [pool.ask() for _ in range(6)]
    assert Counter(answer.status_code for answer in answers) == {403: 3, 200: 3}
    assert {answer.content for answer in answers if answer.status_code == 403} == {FOREIGN.partition(b"\r\n\r\n")[2]}
    assert pool.counts() == [3, 3], "it takes nothing out"


@of("alone")
def test_what_a_single_upstream_says_is_said_and_it_is_always_asked(pool: Pool) -> None:
    (a,) = pool.upstreams
    for delay in ("17s", "2s", "1s", "60s"):
        a.says = quota(delay)
        answer = pool.ask()
        assert (answer.status_code, answer.content) == (429, quota(delay).partition(b"\r\n\r\n")[2])
    a.says = OVERLOADED
    assert pool.ask().content == OVERLOADED.partition(b"\r\n\r\n")[2]
    a.says = BAD_KEY
    for _ in range(5):
        assert pool.ask().headers["x-weighbridge-refused"] == "UPSTREAM_CREDENTIAL_REFUSED"
    assert pool.counts() == [10]
    assert len(pool.logged("upstream_credential_refused")) == 1, "once a minute"
    a.says = b""
    assert pool.ask().status_code == 200


@of("globs")
def test_a_call_goes_where_its_model_is_served_and_nowhere_else(pool: Pool) -> None:
    assert [pool.ask(path=path).status_code for path in (OTHER, f"{TEXT}generateContent", OTHER)] == [200] * 3
    assert pool.counts() == [1, 2]
    answer = pool.ask(path="/v1beta/models/gemini-2.5-flash:generateContent")
    assert (answer.status_code, answer.headers["x-weighbridge-refused"]) == (503, "NO_UPSTREAM")
    assert "gemini-2.5-flash" in answer.json()["error"]["message"]
    assert len(pool.records()) == 3


@of("nobody")
def test_a_project_that_no_upstream_serves_is_told_so(pool: Pool) -> None:
    assert pool.ask().headers["x-weighbridge-refused"] == "NO_UPSTREAM"
    assert pool.records() == []


@of("leaves")
def test_a_client_that_leaves_before_the_next_attempt_ends_the_call(pool: Pool) -> None:
    a, b = pool.upstreams
    a.answers.clear()
    with calling(pool):
        until(lambda: a.asked, "the first was asked")
    for _ in range(3):  # what is read later shows that its end was read
        assert httpx2.get(f"{pool.stand.base_url}/healthz").status_code == 200
    a.answers.set()
    (record,) = until(pool.records, "the record")
    assert (record.outcome, record.upstream, record.cost_usd) == ("upstream_error", "leaves-a", 0)
    assert pool.attempts() == [["a rate_limited"]]
    assert b.asked == []


@of("replay")
def test_a_body_goes_up_whole_again_from_memory_and_from_the_disk(pool: Pool) -> None:
    """Of one project, 128 MB of bodies lie in memory: what comes while another holds them goes to the disk."""
    a, b = pool.upstreams

    def goes_up_twice(megabytes: int, model: str) -> None:
        large = json.dumps(body("0123456789abcdef" * (megabytes << 16)))
        answer = pool.client.post(
            f"{pool.stand.base_url}/v1beta/models/{model}:generateContent",
            content=large,
            headers={"x-goog-api-key": pool.key, "content-type": "application/json"},
        )
        assert answer.status_code == 200
        assert a.asked[-1].content == b.asked[-1].content == large.encode()

    goes_up_twice(8, "gemini-3.8-flash")
    spool = pool.stand.data_dir / "spool"
    assert not spool.exists()
    with connect(pool.stand.base_url) as holder:
        head = f"POST {OTHER} HTTP/1.1\r\nHost: x\r\nX-Goog-Api-Key: {pool.key}\r\nContent-Length: 104857600\r\n\r\n"
        holder.sendall(head.encode())
        for _ in range(99):
            holder.sendall(b" " * (1 << 20))
        goes_up_twice(30, "gemini-3.1-pro-preview")
    assert spool.exists()
    assert pool.counts() == [2, 2]
    assert pool.attempts() == [["a rate_limited", "b answered"]] * 2


@of("cuts")
def test_what_is_free_is_repeated_and_what_may_have_cost_money_is_not(pool: Pool) -> None:
    a, _ = pool.upstreams
    a.cuts = True
    assert pool.ask(path=COUNTS).json() == {"totalTokens": 3}
    assert pool.counts() == [1, 1]
    answer = pool.ask()
    assert (answer.status_code, answer.headers["x-weighbridge-refused"]) == (502, "UPSTREAM_UNREACHABLE")
    assert pool.counts() == [2, 1]
    (record,) = pool.records()
    assert (record.outcome, record.upstream, record.estimated) == ("truncated", "cuts-a", True)
    assert pool.attempts() == [["a broke_off"]]


@pytest.mark.parametrize("pool", ["dies", "dies-in-tls"], indirect=True)
def test_an_upstream_that_dies_under_load_costs_only_the_calls_that_it_had(pool: Pool) -> None:
    a, _ = pool.upstreams
    prompts = [f"call {number}" for number in range(240)]
    with ThreadPoolExecutor(1) as thread:
        load = thread.submit(pool.ask_many, prompts)
        until(lambda: len(a.asked) > 20, "it is under load")
        a.die()
        statuses = load.result()
    asked = Counter(asked.prompt for upstream in pool.upstreams for asked in upstream.asked)
    assert max(asked.values()) == 1, "none is repeated that may have cost money"
    failed = {prompt for prompt, status in zip(prompts, statuses, strict=True) if status != 200}
    assert len(failed) <= 8, "those in flight"
    ended = [attempts[-1] for attempts in pool.attempts()]
    assert ended.count("a broke_off") == len(failed), "had it not gone up, it would have been served"
    assert sum(end.endswith("answered") for end in ended) == len(prompts) - len(failed)
    assert set(pool.billed()) <= set(pool.accounts())
    assert all(prompt in asked for prompt in set(prompts) - failed)
    (line,) = pool.logged("upstream_out")
    assert (line["upstream"], line["why"]) == (f"{pool.project}-a", "unreachable")


@of("over")
def test_a_project_over_its_own_limit_does_not_keep_an_upstream_from_coming_back(pool: Pool) -> None:
    """Each of its calls would claim the probe and never make it."""
    a, _ = pool.upstreams
    until(lambda: pool.ask().status_code == 200 and a.asked, "the first was asked")
    pool.stand.run("project", "update", "over", "--tpm", "1000")
    large = "word " * 2000
    until(lambda: pool.ask(large).status_code == 429, "the limit is in force")
    a.says = b""
    while time.monotonic() < a.asked[-1].at + 1.1:  # nothing tells when a cool-down is over
        time.sleep(0.05)
    asked = len(a.asked)
    assert pool.ask_many([large] * 20, at_once=1) == [429] * 20
    assert pool.ask().status_code == 200
    assert len(a.asked) == asked + 1


@of("own-quota")
def test_a_wall_that_is_known_is_not_hit(pool: Pool) -> None:
    """Twelve calls fit in both quotas; the rest are told when there is room, and no upstream is asked."""
    statuses = pool.ask_many([f"call {number}" for number in range(20)])
    assert Counter(statuses) == {200: 12, 503: 8}
    assert pool.counts() == [5, 7]
    assert pool.ask(path=OTHER).status_code == 200, "each model has a quota of its own"
    refused = pool.ask()
    assert refused.headers["x-weighbridge-refused"] == "NO_UPSTREAM"
    (delay,) = [detail["retryDelay"] for detail in refused.json()["error"]["details"] if "retryDelay" in detail]
    assert 0 < float(delay.removesuffix("s")) <= 61
    assert pool.billed() == pool.accounts()
    headers = {"authorization": f"Bearer {(pool.stand.data_dir / 'admin-token').read_text().strip()}"}
    told = httpx2.get(f"{pool.stand.admin_url}/admin/v1/upstreams", headers=headers).json()
    used = {one["name"]: {each["kind"]: each["used"] for each in one["quota"]} for one in told["upstreams"]}
    assert used["own-quota-a"]["rpm"] in (1, 5), "of either model"
    assert float(used["own-quota-b"]["usd_per_10min"]) == pytest.approx(
        sum((record.cost_usd or 0) / 1e9 for record in pool.records() if record.upstream == "own-quota-b")
    )
