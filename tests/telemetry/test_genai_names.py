"""The names that spans bear: all are told in the docs, and the conventions' are spelled as in OpenTelemetry's own."""

from __future__ import annotations

import re

import pytest
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv.attributes import (
    error_attributes,
    http_attributes,
    network_attributes,
    server_attributes,
    service_attributes,
    url_attributes,
)

from proxy.gemini.surface import OPERATIONS
from proxy.telemetry import genai_names
from tests.pages import text_of

NAMES = {
    value for value in vars(genai_names).values() if isinstance(value, str) and re.fullmatch(r"\w+(\.\w+)+", value)
}
NAMES |= {*genai_names.INPUT_TOKENS_OF.values(), *genai_names.OUTPUT_TOKENS_OF.values()}
NAMES -= {genai_names.GEMINI, genai_names.__name__, genai_names.__package__}
NEWER = {*genai_names.INPUT_TOKENS_OF.values(), *genai_names.OUTPUT_TOKENS_OF.values()}
"""Of the conventions' own repository, behind that package."""


def test_the_conventions_names_are_theirs() -> None:
    modules = (
        error_attributes,
        gen_ai_attributes,
        http_attributes,
        network_attributes,
        server_attributes,
        service_attributes,
        url_attributes,
    )
    theirs = {value for module in modules for value in vars(module).values() if isinstance(value, str)}
    ours = {name for name in NAMES if name.startswith("weighbridge.")}
    assert len(ours) > 8
    assert NAMES - ours - NEWER - {"service.instance.id"} - theirs == set()


def test_every_name_is_told_in_the_docs_and_no_other() -> None:
    told = set(
        re.findall(
            r"`((?:gen_ai|http|url|network|server|error|service|weighbridge)\.[a-z_.]+)`", text_of("docs/traces.md")
        )
    )
    assert told - {"weighbridge.toml"} == NAMES


@pytest.mark.parametrize("operation", [one for one in OPERATIONS if one.metered], ids=lambda one: one.name)
def test_every_metered_operation_has_a_name_of_the_conventions(operation: object) -> None:
    assert getattr(operation, "name", "") in genai_names.OPERATIONS
