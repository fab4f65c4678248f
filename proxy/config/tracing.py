"""What can be configured of traces: [tracing] of weighbridge.toml."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator

from proxy.config.section import Section, check_base_url

TRACES = "/v1/traces"
"""Where a collector takes them, under its base URL: https://opentelemetry.io/docs/specs/otlp/#otlphttp-request."""
LACKING = (
    "traces need the OpenTelemetry SDK, which isn't installed: pip install 'weighbridge[otel]' "
    "(what deploy/install made: REQUIREMENTS=otel deploy/install; in a checkout: pip install --require-hashes "
    "-r requirements/otel.txt), or leave this setting out"
)

_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[!-~](?:[ -~]*[!-~])?")


def _endpoint(url: str) -> str:
    if not url:
        return url
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold a user name or password: a header that lets us in goes in headers_env or _file")
    return check_base_url(url).removesuffix(TRACES)


class Tracing(Section):
    """Where spans are sent. `headers` are never written in the file: they are what the reference led to."""

    otlp_endpoint: Annotated[str, AfterValidator(_endpoint)] = ""
    """The base URL of a collector that takes OTLP over HTTP; empty: there are no traces."""
    sample_ratio: float = Field(1.0, ge=0, le=1, allow_inf_nan=False)
    """Of calls that come without a trace of their own; of the others, whoever began it has decided."""
    headers_env: str | None = None
    headers_file: Path | None = None
    headers: SecretStr | None = None

    @model_validator(mode="after")
    def _with_endpoint(self) -> Tracing:
        given = [name for name in ("headers_env", "headers_file") if getattr(self, name) is not None]
        if given and not self.otlp_endpoint:
            raise ValueError(f"{given[0]} is set, and otlp_endpoint is not: it says whom they are for")
        return self

    @property
    def lacks_package(self) -> bool:
        """Whether it asks for what isn't installed."""
        return bool(self.otlp_endpoint) and not _installed()


def parse_headers(text: str) -> dict[str, str]:
    """Headers as OTEL_EXPORTER_OTLP_HEADERS has them: NAME=VALUE, with commas between, values percent-encoded.

    Raises ValueError, which never holds the text.
    """
    found: dict[str, str] = {}
    for pair in text.split(","):
        name, equals, value = pair.partition("=")
        value = unquote(value)
        if not (equals and _HEADER.fullmatch(name) and _VALUE.fullmatch(value)):
            raise ValueError(
                "must hold NAME=VALUE, with commas between several and values percent-encoded, such as "
                "Authorization=Bearer%20…"
            )
        found[name.lower()] = value
    return found


def _installed() -> bool:
    try:
        return all(find_spec(f"opentelemetry.{name}") for name in ("sdk.trace", "exporter.otlp.proto.http"))
    except ModuleNotFoundError:  # of a package that such a name begins with
        return False
