"""The one shape of whatever goes wrong, and the page that each kind leads to."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from proxy.control.admin.problems import Fault, Kind, Problem, invalid

DOCS = Path(__file__).parents[3] / "docs" / "admin-api.md"


def test_a_problem_is_told_as_rfc_9457_has_it() -> None:
    response = Problem(Kind.CONFLICT, "It is taken.", headers={"x-more": "1"}).response()

    assert (response.status_code, response.media_type) == (409, "application/problem+json")
    assert response.headers["x-more"] == "1"
    assert response.body == (
        b'{"type":"/docs/admin-api#conflict","title":"The id is another one\'s","status":409,"detail":"It is taken."}'
    )


def test_a_bad_field_is_named_apart_and_in_the_sentence() -> None:
    problem = invalid(Fault("why", "is required"), Fault("of", "must be a string"))

    assert problem.detail == "why: is required; of: must be a string"
    assert b'"errors":[{"field":"why","message":"is required"},{"field":"of"' in problem.response().body


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_leads_to_its_heading_in_the_docs(kind: Kind) -> None:
    """With its HTTP status beside it."""
    assert re.search(rf"^### {kind.word}\n\n{kind.http}[.:]", DOCS.read_text("utf-8"), re.MULTILINE)
