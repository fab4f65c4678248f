"""What goes wrong, in Google's own words: google.rpc.Status bodies as captured, or as its documentation has them."""

from __future__ import annotations

from typing import Any

from proxy.gemini.status import error_body

SERVICE = "generativelanguage.googleapis.com"
PROJECT = "123456789012"
"""A project number such as Google's errors let out: no client of a proxy may see it."""

Details = tuple[dict[str, Any], ...]


class ApiError(Exception):
    """Answered in place of a reply: HTTP status, google.rpc code, message and details."""

    def __init__(self, code: int, status: str, message: str, details: Details = ()) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.message = message
        self.details = details

    def body(self) -> bytes:
        """{"error": {…}} as a JSON document."""
        return error_body(self.code, self.status, self.message, self.details)


def invalid(message: str, details: Details = ()) -> ApiError:
    return ApiError(400, "INVALID_ARGUMENT", message, details)


def bad_fields(violations: list[tuple[str, str]]) -> ApiError:
    """400 for unknown or malformed fields, given as (path, message); Google puts one message in a line."""
    found = [{"field": path, "description": said} if path else {"description": said} for path, said in violations]
    return invalid("\n".join(said for _, said in violations), (_typed("BadRequest", fieldViolations=found),))


def model_not_found(model: str, version: str, method: str) -> ApiError:
    return ApiError(
        404,
        "NOT_FOUND",
        f"models/{model} is not found for API version {version}, or is not supported for {method}. "
        "Call ListModels to see the list of available models and their supported methods.",
    )


def key_missing() -> ApiError:
    return ApiError(
        403,
        "PERMISSION_DENIED",
        "Method doesn't allow unregistered callers (callers without established identity). "
        "Please use API Key or other form of API consumer identity to call this API.",
    )


def key_invalid() -> ApiError:
    said = "API key not valid. Please pass a valid API key."
    local = _typed("LocalizedMessage", locale="en-US", message=said)
    return invalid(said, (_info("API_KEY_INVALID", service=SERVICE), local))


def keys_conflict() -> ApiError:
    return invalid("Multiple authentication credentials received. Please pass only one.")


def token_unsupported(
    method: str = "google.ai.generativelanguage.v1beta.GenerativeService.GenerateContent",
) -> ApiError:
    return ApiError(
        401,
        "UNAUTHENTICATED",
        "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid "
        "authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project.",
        (_info("ACCESS_TOKEN_TYPE_UNSUPPORTED", method=method, service=SERVICE),),
    )


def key_echoed(key: str) -> ApiError:
    """An error that repeats the credential, as no server should: what a proxy must redact."""
    return ApiError(
        403,
        "PERMISSION_DENIED",
        f"Requests with the API key {key} are blocked.",
        (_info("API_KEY_SERVICE_BLOCKED", apiKey=key, consumer=f"projects/{PROJECT}", service=SERVICE),),
    )


def named(name: str, model: str, version: str, method: str) -> ApiError:
    """The error that `[[status=NAME]]` asks for. KeyError where NAME isn't in NAMES."""
    if name == "404":
        return model_not_found(model, version, method)
    if name == "429":
        return _quota(model)
    if name == "401":
        return token_unsupported()
    return ApiError(*_PLAIN[name])


def _typed(type_name: str, **fields: Any) -> dict[str, Any]:
    return {"@type": f"type.googleapis.com/google.rpc.{type_name}"} | fields


def _info(reason: str, **metadata: str) -> dict[str, Any]:
    return _typed("ErrorInfo", reason=reason, domain="googleapis.com", metadata=metadata)


def _quota(model: str) -> ApiError:
    metric = f"{SERVICE}/generate_content_paid_tier_input_token_count"
    violation = {
        "quotaMetric": metric,
        "quotaId": "GenerateContentPaidTierInputTokensPerModelPerMinute",
        "quotaDimensions": {"model": model, "location": "global"},
        "quotaValue": "1000000",
    }
    link = {
        "description": "Learn more about Gemini API quotas",
        "url": "https://ai.google.dev/gemini-api/docs/rate-limits",
    }
    return ApiError(
        429,
        "RESOURCE_EXHAUSTED",
        "You exceeded your current quota, please check your plan and billing details. For more information on this "
        "error, head to: https://ai.google.dev/gemini-api/docs/rate-limits. To monitor your current usage, head to: "
        f"https://ai.dev/rate-limit. \n* Quota exceeded for metric: {metric}, limit: 1000000, model: {model}\n"
        "Please retry in 45.811974541s.",
        (
            _typed("Help", links=[link]),
            _typed("QuotaFailure", violations=[violation]),
            _typed("RetryInfo", retryDelay="45s"),
        ),
    )


_CONSUMER_QUOTA = (
    "Quota exceeded for quota metric 'Generate Content API requests per minute' and limit 'GenerateContent request "
    f"limit per minute for a region' of service '{SERVICE}' for consumer 'project_number:{PROJECT}'."
)
_NOT_ENABLED = (
    f"Generative Language API has not been used in project {PROJECT} before or it is disabled. Enable it by visiting "
    f"https://console.developers.google.com/apis/api/{SERVICE}/overview?project={PROJECT} then retry. "
    "If you enabled this API recently, wait a few minutes for the action to propagate to our systems and retry."
)
_SPENT = (
    "You exceeded your spend-based rate limit. Your spending rate has exceeded the allowed limit for your account's "
    "billing history and tier."
)
_PLAIN: dict[str, tuple[int, str, str] | tuple[int, str, str, Details]] = {
    "400": (400, "INVALID_ARGUMENT", "Request contains an invalid argument."),
    "400-location": (400, "FAILED_PRECONDITION", "User location is not supported for the API use."),
    "403": (
        403,
        "PERMISSION_DENIED",
        _NOT_ENABLED,
        (_info("SERVICE_DISABLED", consumer=f"projects/{PROJECT}", service=SERVICE),),
    ),
    "429-project": (
        429,
        "RESOURCE_EXHAUSTED",
        _CONSUMER_QUOTA,
        (_info("RATE_LIMIT_EXCEEDED", consumer=f"projects/{PROJECT}", quota_limit_value="0", service=SERVICE),),
    ),
    "429-exhausted": (429, "RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota)."),
    "429-spend": (429, "RESOURCE_EXHAUSTED", _SPENT),
    "429-prepaid": (429, "RESOURCE_EXHAUSTED", "Your prepayment credits are depleted."),
    "499": (499, "CANCELLED", "The operation was cancelled."),
    "500": (500, "INTERNAL", "An internal error has occurred. Please retry or report the problem."),
    "503": (503, "UNAVAILABLE", "The model is overloaded. Please try again later."),
    "503-service": (503, "UNAVAILABLE", "The service is currently unavailable."),
    "504": (504, "DEADLINE_EXCEEDED", "Deadline expired before operation could complete."),
}
NAMES = frozenset(_PLAIN) | {"401", "404", "429"}
