"""Why there is no answer, or one that is an error, and what to do about it: a sentence for each."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx2

from proxy.cli.image.target import GET_A_KEY, GET_GOOGLES_KEY, GOOGLE, Target

_CHECK = "`weighbridge image --check` looks at everything"
_OURS = {
    "API_KEY_INVALID": f"`weighbridge key list` shows which keys there are, {GET_A_KEY}",
    "MODEL_NOT_ALLOWED": "",
    "RATE_LIMITED": "`weighbridge image --check` says what is left",
    "BUDGET_EXCEEDED": "`weighbridge image --check` says what is left; whoever runs the proxy can raise it",
    "NO_UPSTREAM": "whoever runs the proxy sees why: `weighbridge upstreams`",
    "UPSTREAM_CREDENTIAL_REFUSED": "whoever runs the proxy sees it, too: `weighbridge doctor`",
    "UPSTREAM_UNREACHABLE": "whoever runs the proxy sees why: `weighbridge doctor`",
}
"""Of refusals of a Weighbridge, whose messages mostly say by themselves what to do."""
_GOOGLES = {
    "API_KEY_INVALID": f"copy the key anew; {GET_GOOGLES_KEY}",
    400: f"look at --model, --size and --aspect; {_CHECK}",
    401: f"copy the key anew; {GET_GOOGLES_KEY}",
    403: "look at the key's project, and whether its tier may use this model: https://aistudio.google.com/apikey",
    404: f"ask for another --model: `weighbridge prices list --models` names some; {_CHECK}",
    429: "come back later: limits are the Google project's, and those of a day begin anew at midnight in Los Angeles",
    500: "try again in a minute; if it stays, with a shorter prompt or fewer pictures",
    502: "try again in a minute",
    503: "try again in a minute, or ask for another --model: this one is overloaded",
    504: "try again with a smaller --size, a shorter prompt or fewer pictures",
}


_SAID = ("moderation_blocked", "no_image_generated")
"""Of errors in OpenAI's shape: a Weighbridge words them itself, and says what to do."""


class Told(NamedTuple):
    """An error as it came: in Google's shape or in OpenAI's."""

    word: str
    """Google's status, such as "NOT_FOUND"; OpenAI's code."""
    message: str
    reason: str
    """Of an ErrorInfo; empty where there is none."""
    ours: bool
    """A Weighbridge refused it, and no upstream."""


def of_error(body: Any) -> Told | None:
    """What an error says; None for what has neither shape."""
    match body:
        case {"error": {"message": str(message)} as error}:
            word = error.get("status") or error.get("code")
            if isinstance(word, str):
                infos = [detail for detail in error.get("details") or () if "reason" in detail]
                reason, domain = (infos[0]["reason"], infos[0].get("domain")) if infos else ("", "")
                return Told(word, message, reason, domain == "weighbridge")
    return None


def sentence(response: httpx2.Response, body: Any, target: Target) -> str:
    """What an answer that isn't a success says, and the next step."""
    told = of_error(body)
    if told is None:
        return f"{target.base_url} answered {response.status_code}: {' '.join(response.text[:300].split())}; {_CHECK}"
    message = " ".join(told.message.split())
    message = message if message.endswith((".", "!", "?")) else f"{message}."
    hint = response.headers.get("x-weighbridge-hint")
    step = hint or next_step(told, response.status_code, target)
    return f"{told.word}: {message}" + (f" What to do: {step}" if step else "")


def next_step(told: Told, http: int, target: Target) -> str:
    """What to do about an error; empty where its message says that itself."""
    if told.word in _SAID:
        return ""
    if told.ours:
        if told.reason == "API_KEY_INVALID" and target.has_googles_key:
            return f"the key is Google's, and this is a Weighbridge, which has keys of its own: {GET_A_KEY}"
        return _OURS.get(told.reason, "")
    return _GOOGLES.get(told.reason) or _GOOGLES.get(http, _CHECK)


def unreachable(target: Target, error: Exception) -> str:
    """Why no answer came, and what to look at."""
    return f"{target.base_url} can't be reached ({error or type(error).__name__}): {_look_at(target, error)}"


def _look_at(target: Target, error: Exception) -> str:
    causes = list(_causes(error))
    https = target.base_url.startswith("https:")
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return "no such host is known. Is its name spelled right, and is there a network?"
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"its certificate isn't trusted ({cause.verify_message}). If it is of an authority of your own, name "
                "that one's file in SSL_CERT_FILE"
            )
    if any(isinstance(cause, ssl.SSLError) for cause in causes):
        return f"what listens there speaks no TLS. Write it with http: http{target.base_url[5:]}" if https else _CHECK
    if isinstance(error, httpx2.ConnectTimeout):
        return "nobody answers there. Is the address right, and does a firewall stand in between?"
    if isinstance(error, httpx2.TimeoutException):
        return "no answer came in time. It may still be drawing, and be billed: look before you try again"
    if isinstance(error, httpx2.ConnectError):
        what = "does the network reach Google?" if target.google else "does `weighbridge serve` run there?"
        return f"nothing listens there. Is the port right, and {what}"
    if isinstance(error, httpx2.RemoteProtocolError | httpx2.ReadError) and not https:
        return f"it closed without an answer. Does it speak TLS? Then write it with https: https{target.base_url[4:]}"
    return f"is it a base URL, such as http://127.0.0.1:8080 or https://{GOOGLE}?"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
