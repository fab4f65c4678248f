"""What is looked at of an upstream: one list of models, free of charge, with the operator's own key."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import unquote

import httpx2

from proxy.cli.doctor.findings import CLOCK_FAILS_S, CLOCK_WARNS_S, Finding, ok, problem, warning
from proxy.config.upstreams import Upstream
from proxy.gemini.credentials import upstream_credential
from proxy.upstreams.configured import context_of, password_of

ANSWERS_WITHIN_S = 8.0
PAGE = 1_000
MOST_PAGES = 10
NAMED = 8
"""Missing models that are named; of more, how many."""

ADVICE = {
    "API_KEY_INVALID": "make a new key at https://aistudio.google.com/apikey and put it where {where} says{restart}",
    "API_KEY_SERVICE_BLOCKED": "allow the Generative Language API among the key's restrictions (Google Cloud console)",
    "API_KEY_IP_ADDRESS_BLOCKED": "let the key be used from this machine's address: its application restrictions",
    "API_KEY_HTTP_REFERRER_BLOCKED": "the key is for web pages: take one without application restrictions",
    "SERVICE_DISABLED": "enable the Generative Language API in that project: the message has the address",
    "BILLING_DISABLED": "enable billing in that project",
    "CONSUMER_SUSPENDED": "the project is suspended: see its page in the Google Cloud console",
    "ACCESS_TOKEN_TYPE_UNSUPPORTED": 'a Gemini API key is sent with auth = "x-goog-api-key", which is the default',
}
"""By the reason in Google's error. `where` is the setting that leads to the key, `restart` when a server takes it."""


def check_upstream(upstream: Upstream, wanted: Collection[str], unix_s: Callable[[], float]) -> Iterator[Finding]:
    """`wanted` are models that aliases lead to, that prices are configured for, or that the price book draws with."""
    offered: list[str] = []
    asked = unix_s()
    try:
        with client_of(upstream, ANSWERS_WITHIN_S) as client:
            for page, (answer, listed) in enumerate(pages(client, upstream)):
                if not page:
                    yield from clock(answer.headers.get("date"), asked, unix_s())
                if listed is None:
                    yield refusal(answer.status_code, answer.content, upstream)
                    return
                offered += listed
    except httpx2.HTTPError as error:
        yield unreachable(error, upstream)
        return
    yield ok(f"{upstream.base_url} takes the key and offers {len(offered)} models")
    if missing := [model for model in wanted if model not in offered]:
        named = ", ".join(missing[:NAMED]) + (f" and {len(missing) - NAMED} more" if len(missing) > NAMED else "")
        yield warning(
            f"it doesn't offer {named}",
            "calls to these fail; the key's project or region may not have them, or they were retired",
        )


def client_of(upstream: Upstream, timeout_s: float) -> httpx2.Client:
    """Calls the upstream as the server does: with its key, by the same way, trusting and showing the same certificates.

    Of an http upstream behind a forward proxy the proxy gets the request itself, and not CONNECT.
    """
    name, value = upstream_credential(upstream.auth, upstream.api_key.get_secret_value())
    options: dict[str, Any] = {"timeout": timeout_s, "trust_env": False, "headers": {name: value}}
    if context := context_of(upstream):
        options["verify"] = context
    if upstream.proxy_url:
        user, at, place = upstream.proxy_url.removeprefix("http://").rpartition("@")
        auth = (unquote(user), password_of(upstream)) if at else None
        options["proxy"] = httpx2.Proxy(f"http://{place}", auth=auth)
    return httpx2.Client(**options)


def pages(client: httpx2.Client, upstream: Upstream) -> Iterator[tuple[httpx2.Response, list[str] | None]]:
    """The upstream's list of models, which is free: each answer, and the names in it; None where it is no list."""
    token = ""
    for _ in range(MOST_PAGES):
        answer = client.get(f"{upstream.base_url}/v1beta/models", params=_page(token))
        listed = _models(answer)
        yield answer, None if listed is None else listed[0]
        if listed is None or not (token := listed[1]):
            return


def unreachable(error: httpx2.HTTPError, upstream: Upstream) -> Finding:
    return problem(
        f"{upstream.base_url}: {error or type(error).__name__}",
        "look at base_url, proxy_url and the network, and for certificates of your own at ca_file or SSL_CERT_FILE",
    )


def _page(token: str) -> dict[str, str | int]:
    return {"pageSize": PAGE, "pageToken": token} if token else {"pageSize": PAGE}


def _models(answer: httpx2.Response) -> tuple[list[str], str] | None:
    """The names of a page, and the next page's token; None where it is no such page."""
    try:
        document = answer.json()
        names = [str(model["name"]).removeprefix("models/") for model in document["models"]]
        return names, str(document.get("nextPageToken", ""))
    except (ValueError, KeyError, TypeError):
        return None


def clock(date: str | None, asked: float, answered: float) -> Iterator[Finding]:
    """Our clock beside that of the upstream's `date`, which has whole seconds. Times are in Unix seconds."""
    try:
        theirs = parsedate_to_datetime(date or "").timestamp() + 0.5
    except ValueError:
        return
    off = max(0.0, abs((asked + answered) / 2 - theirs) - (answered - asked) / 2 - 0.5)
    if off < CLOCK_WARNS_S:
        yield ok("its clock and this machine's agree")
        return
    way = "behind" if theirs > asked else "ahead of"
    what = f"this machine's clock is {off:,.0f} s {way} the upstream's"
    do = "set it by NTP: days of limits and bills, and the time of every record, go by it"
    yield problem(what, do) if off > CLOCK_FAILS_S else warning(what, do)


def refusal(status: int, body: bytes, upstream: Upstream) -> Finding:
    """What an answer that is no list of models means."""
    message, reason, project = _error(body)
    at = f"{upstream.base_url} answers {status}"
    said = f"{at}: {message}" if message else at
    where = "api_key_env" if upstream.api_key_env else "api_key_file"
    if project and project not in said:
        said += f" (project {project})"
    if advice := ADVICE.get(reason):
        restart = "; the server takes it by a restart" if upstream.api_key_env else ""
        return problem(said, advice.format(where=f"upstreams.{where}", restart=restart))
    if "location is not supported" in message:
        return problem(
            said, "Google doesn't serve this region: run the server elsewhere, or enable billing for the project"
        )
    if status in (401, 403) or (status == 400 and "key" in message.lower()):
        return problem(said, f"see what the key of upstreams.{where} may be used for in the Google Cloud console")
    if status == 429 or status >= 500:
        return warning(said, "the key can't be checked now: try again later")
    return problem(said, "base_url may lead elsewhere: it is the address without /v1beta")


def _error(body: bytes) -> tuple[str, str, str]:
    """Message, reason and the number of the project of a google.rpc.Status; empty where it has none."""
    try:
        error = json.loads(body)["error"]
        message = " ".join(str(error["message"]).split())[:500]
        details = [detail for detail in error.get("details", ()) if isinstance(detail, dict)]
    except (ValueError, KeyError, TypeError, AttributeError):
        return "", "", ""
    reason = next((str(detail["reason"]) for detail in details if "reason" in detail), "")
    metadata = [detail.get("metadata") for detail in details]
    consumer = next((str(each["consumer"]) for each in metadata if isinstance(each, dict) and "consumer" in each), "")
    return message, reason, "".join(re.findall(r"\d+", consumer)[:1])
