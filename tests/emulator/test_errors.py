"""Errors in Google's words."""

from __future__ import annotations

import json

import pytest

from proxy.emulator import errors


@pytest.mark.parametrize("name", sorted(errors.NAMES))
def test_each_named_error_has_googles_shape_and_the_code_of_its_name(name: str) -> None:
    error = errors.named(name, "gemini-x", "v1", "generateContent")
    value = json.loads(error.body())
    assert list(value) == ["error"]
    assert list(value["error"])[:3] == ["code", "message", "status"]
    assert value["error"]["code"] == int(name[:3])
    assert all(one["@type"].startswith("type.googleapis.com/google.rpc.") for one in value["error"].get("details", []))


def test_a_quota_failure_names_the_quota_and_when_to_come_back() -> None:
    details = errors.named("429", "gemini-x", "v1", "generateContent").details
    assert [one["@type"].rpartition(".")[2] for one in details] == ["Help", "QuotaFailure", "RetryInfo"]
    assert details[1]["violations"][0]["quotaDimensions"] == {"model": "gemini-x", "location": "global"}
    assert details[2]["retryDelay"] == "45s"


@pytest.mark.parametrize("name", ["403", "429-project"])
def test_some_errors_let_out_the_project_number(name: str) -> None:
    error = errors.named(name, "gemini-x", "v1", "generateContent")
    assert errors.PROJECT in error.message
    assert error.details[0]["metadata"]["consumer"] == f"projects/{errors.PROJECT}"


@pytest.mark.parametrize("name", ["429-exhausted", "429-spend", "429-prepaid"])
def test_other_429s_come_without_details(name: str) -> None:
    assert "details" not in json.loads(errors.named(name, "gemini-x", "v1", "generateContent").body())["error"]


def test_several_bad_fields_are_told_at_once() -> None:
    error = errors.bad_fields([("", "first"), ("generation_config", "second")])
    assert error.message == "first\nsecond"
    violations = error.details[0]["fieldViolations"]
    assert violations == [{"description": "first"}, {"field": "generation_config", "description": "second"}]
