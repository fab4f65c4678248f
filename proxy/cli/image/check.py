"""`weighbridge image --check`: tests the way to a picture, step by step, without making one. It costs nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx2
import typer

from proxy.cli.doctor.findings import Finding, ok, problem, tell, warning
from proxy.cli.image import advice, left
from proxy.cli.image.calls import Wish
from proxy.cli.image.target import GET_A_KEY, Target
from proxy.gemini import image_models
from proxy.tenants import key_format

TIMEOUT_S = 20
"""Nothing that is asked here takes long."""
_NAMED = 6
"""Models that are named where another one should be asked for."""
_USAGE = "https://aistudio.google.com/usage shows what Google counts"

Found = Iterator[tuple[str, Finding]]


def run(target: Target, wish: Wish, via: str, *, json: bool) -> None:
    """Prints what is found; ends with 1 where there is a problem."""
    with httpx2.Client(timeout=TIMEOUT_S) as http:
        checking = Checking(http, target, wish, via)
        if not tell(list(checking.findings()), json=json):
            raise typer.Exit(1)


class Answer(NamedTuple):
    """What came of a question. `body` is None where it is no JSON."""

    response: httpx2.Response
    body: Any

    @property
    def of_weighbridge(self) -> bool:
        return "x-weighbridge-request-id" in self.response.headers

    @property
    def ok(self) -> bool:
        return self.response.status_code == 200 and isinstance(self.body, dict)


class Checking:
    """One test: each step asks something free, and the next ones go by what it found."""

    def __init__(self, http: httpx2.Client, target: Target, wish: Wish, via: str) -> None:
        self._http = http
        self._target = target
        self._wish = wish
        self._via = via

    def findings(self) -> Found:
        """Stops where nothing behind could be told any more."""
        target = self._target
        if target.note:
            yield (
                "base URL",
                warning(target.note, f"give {target.base_url}; SDKs of OpenAI's have /openai/v1 behind it"),
            )
        try:
            yield from self._reach()
        except httpx2.HTTPError as error:
            said, _, do = advice.unreachable(target, error).rpartition("): ")
            yield "base URL", problem(f"{said})", do)

    def _ask(self, path: str, *, key: bool = True) -> Answer:
        headers = {"x-goog-api-key": self._target.key} if key else {}
        response = self._http.get(self._target.base_url + path, headers=headers)
        try:
            return Answer(response, response.json())
        except ValueError:
            return Answer(response, None)

    def _reach(self) -> Found:
        """The first question goes without a key: nobody knows yet who is there."""
        if self._target.google:
            yield from self._gemini()
            return
        first = self._ask("/healthz", key=False)
        if first.response.is_redirect:
            where = first.response.headers.get("location", "elsewhere")
            yield "base URL", problem(f"it sends to {where}", "give that one's base URL: a key isn't sent on by itself")
            return
        limits = self._ask("/weighbridge/v1/limits")
        at_control_door = limits.response.status_code == 404 and limits.body is None
        if at_control_door or not (first.of_weighbridge or limits.of_weighbridge):
            yield from self._gemini()
            return
        yield "base URL", ok(f"{self._target.base_url} is a Weighbridge")
        yield from self._weighbridge(limits)

    def _weighbridge(self, limits: Answer) -> Found:
        told = advice.of_error(limits.body)
        if not limits.ok and not (told and told.reason == "LIMITER_UNAVAILABLE"):
            yield "key", self._refused(limits)
            return
        project = limits.body.get("project")
        yield "key", ok(f"valid, of project {project}" if project else "valid")
        used = self._wish.model
        known = self._ask(f"/openai/v1/models/{self._wish.model}")
        yield "model", self._model(known)
        if known.ok:
            yield from self._shape(known.body["x_weighbridge"]["images"])
            used = known.body["x_weighbridge"]["answered_by"]
            yield "upstream", self._upstream(used)
        if limits.ok:
            for finding in left.findings(limits.body["limits"], used, self._wish.n):
                yield "left", finding
        else:
            yield (
                "left",
                warning("what is left can't be told now", advice.sentence(limits.response, limits.body, self._target)),
            )

    def _refused(self, answer: Answer) -> Finding:
        key = self._target.key
        if key.startswith(key_format.PREFIX) and not key_format.well_formed(key):
            return problem("it was cut short, or mistyped: its checksum is wrong", f"copy it anew; {GET_A_KEY}")
        return self._error(answer)

    def _error(self, answer: Answer) -> Finding:
        said, _, do = advice.sentence(answer.response, answer.body, self._target).partition(" What to do: ")
        return problem(
            said,
            do
            or "have whoever runs the proxy look at it, with the request id "
            + answer.response.headers.get("x-weighbridge-request-id", "(none)"),
        )

    def _model(self, known: Answer) -> Finding:
        model = self._wish.model
        if not known.ok:
            said = advice.of_error(known.body)
            message = said.message if said else f"{model}: {known.response.status_code}"
            return problem(message, f"--model {self._others()}")
        ours = known.body["x_weighbridge"]
        if ours["images"] is None and ours["rates"] is not None:
            return problem(f"{model} makes no pictures", f"--model {self._others()}")
        if (gone := ours["retired"]) and (self._via == "native" or ours["answered_by"] != gone["successor"]):
            return problem(f"{model} was shut down on {gone['on']}", f"--model {gone['successor']}")
        answers = "" if ours["answered_by"] == model else f": {ours['answered_by']} answers"
        if ours["rates"] is None:
            return warning(f"{model} is allowed, but has no price here{answers}", "whoever runs the proxy can set one")
        size = (ours["images"]["sizes"] or {}).get(_size(self._wish.size)) or {}
        price = f", ${size['usd']} a picture of {_size(self._wish.size)}, and the input" if size.get("usd") else ""
        return ok(f"{model} is allowed{answers}{price}")

    def _others(self) -> str:
        """Models to ask for instead, as far as this key may."""
        listed = self._ask("/openai/v1/models")
        models = listed.body["data"] if listed.ok else []
        draws = [one["id"] for one in models if one["x_weighbridge"]["images"] and not one["x_weighbridge"]["retired"]]
        return " or ".join(draws[:_NAMED]) or "that whoever runs the proxy allows this key: it may use none now"

    def _shape(self, images: dict[str, Any] | None) -> Found:
        """Whether size and aspect ratio are such as the model makes."""
        if images is None:
            return
        asked = (
            ("--size", self._wish.size and _size(self._wish.size), list(images["sizes"])),
            ("--aspect", self._wish.aspect, images["aspect_ratios"]),
        )
        for option, value, offered in asked:
            if value and value not in offered:
                what, do = f"{value} is none of this model's", f"{option} {' or '.join(offered)}"
                if self._via == "native":
                    yield option.strip("-"), problem(what, do)
                else:
                    yield option.strip("-"), warning(f"{what}: the nearest is taken in its place", do)

    def _upstream(self, model: str) -> Finding:
        answer = self._ask(f"/v1beta/models/{model}")
        return ok(f"Google is reached, and knows {model}") if answer.ok else self._error(answer)

    def _gemini(self) -> Found:
        """Google itself, or what speaks as it does: its models.get is free."""
        target, model = self._target, self._wish.model
        answer = self._ask(f"/v1beta/models/{model}")
        told = advice.of_error(answer.body)
        if not (answer.ok and "name" in answer.body) and told is None:
            yield "base URL", self._nobody(answer)
            return
        who = "Google" if target.google else "no Weighbridge; it answers as the Gemini API does"
        yield "base URL", ok(f"{target.base_url} is {who}")
        if self._via == "openai":
            yield "via", problem("OpenAI's shape is served by a Weighbridge only", "--via native")
        gone = image_models.retired(model)
        if told and answer.response.status_code != 404:
            yield "key", self._error(answer)
            return
        yield "key", ok("valid")
        if told:
            do = f"--model {gone.successor}" if gone else f"--model {' or '.join(_current())}"
            yield "model", problem(f"{model} was shut down on {gone.on}" if gone else told.message, do)
            return
        yield "model", ok(f"{model} is known: {answer.body.get('displayName', answer.body['name'])}")
        if model in image_models.IMAGE_MODELS:
            offered = image_models.offers(model)
            yield from self._shape({"sizes": dict.fromkeys(offered.sizes), "aspect_ratios": offered.ratios})
        yield "left", ok(f"Google tells nobody by API what is left: {_USAGE}")

    def _nobody(self, answer: Answer) -> Finding:
        if self._ask("/readyz", key=False).response.text in ("ready\n", "not ready\n"):
            return problem(
                f"{self._target.base_url} is a Weighbridge's control door, which is for operators",
                "give the gateway door, which serve prints first: by default http://127.0.0.1:8080",
            )
        return problem(
            f"{self._target.base_url} answered {answer.response.status_code}, and not as the Gemini API does",
            "give a Weighbridge's base URL, as serve prints it, or https://generativelanguage.googleapis.com",
        )


def _current() -> list[str]:
    return [model for model in image_models.IMAGE_MODELS if not image_models.retired(model)]


def _size(size: str | None) -> str:
    """As tables name it."""
    wanted = (size or "1K").upper()
    return "512" if wanted == "0.5K" else wanted
