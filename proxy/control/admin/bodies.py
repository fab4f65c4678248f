"""Request bodies of the admin API: JSON, bounded, and exactly of the fields that are asked for."""

from __future__ import annotations

from typing import Any, TypeVar, cast

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator
from starlette.requests import ClientDisconnect, Request

from proxy.control.admin.problems import Fault, Kind, Problem, invalid

MOST_BYTES = 64 * 1024


class Body(BaseModel):
    """What a request may hold: unknown fields are typos, and types aren't converted."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)

    @field_validator("*")
    @classmethod
    def _asked_of_any_store(cls, value: object) -> object:
        if isinstance(value, str) and "\0" in value:  # PostgreSQL takes none, not even to be compared
            raise ValueError("must not hold the character NUL")
        return value


B = TypeVar("B", bound=Body)


async def read(request: Request, model: type[B]) -> B:
    """The request's body. Raises Problem, which names each field that is wrong and never shows its value."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise Problem(Kind.UNSUPPORTED_MEDIA_TYPE, "The body must be JSON, sent with Content-Type: application/json.")
    text = bytearray()
    try:
        async for chunk in request.stream():
            text += chunk
            if len(text) > MOST_BYTES:
                raise Problem(Kind.TOO_LARGE, f"The body has more than {MOST_BYTES:,} bytes.")
    except ClientDisconnect:
        raise Problem(Kind.BAD_REQUEST, "The client left before its body was whole.") from None
    try:
        return model.model_validate_json(bytes(text))
    except ValidationError as error:
        raise _problem(cast("list[dict[str, Any]]", error.errors(include_url=False, include_input=False))) from None


def _problem(errors: list[dict[str, Any]]) -> Problem:
    if errors[0]["type"] == "json_invalid":
        return Problem(Kind.BAD_REQUEST, f"The body is not JSON: {errors[0]['ctx']['error']}.")
    if not errors[0]["loc"]:
        return Problem(Kind.BAD_REQUEST, "The body must be a JSON object.")
    return invalid(*(Fault(".".join(map(str, error["loc"]))[:64], _sentence(error)) for error in errors))


def _sentence(error: dict[str, Any]) -> str:
    match error["type"]:
        case "extra_forbidden":
            return "there is no such field here"
        case "missing":
            return "is required"
        case "string_type":
            return "must be a string"
    return str(error["msg"]).removeprefix("Value error, ")
