"""The table of operations: what stands where, and what it says of each row."""

from __future__ import annotations

import pytest

from proxy.gemini import surface


@pytest.mark.parametrize(
    ("method", "path", "name", "model"),
    [
        ("POST", "models/gemini-3-pro-image:generateContent", "generateContent", "gemini-3-pro-image"),
        ("POST", "models/g:streamGenerateContent", "streamGenerateContent", "g"),
        ("POST", "models/g:countTokens", "countTokens", "g"),
        ("POST", "models/g:embedContent", "embedContent", "g"),
        ("POST", "models/g:batchEmbedContents", "batchEmbedContents", "g"),
        ("GET", "models", "models.list", ""),
        ("GET", "models/g", "models.get", "g"),
        ("POST", "openai/chat/completions", "openai.chat.completions", ""),
        ("POST", "openai/embeddings", "openai.embeddings", ""),
        ("POST", "openai/images/generations", "openai.images.generations", ""),
        ("GET", "openai/models", "openai.models.list", ""),
        ("GET", "openai/models/g", "openai.models.get", "g"),
        ("POST", "models/a:b:countTokens", "countTokens", "a:b"),
        ("POST", "models/:countTokens", "countTokens", ""),
    ],
)
def test_an_operation_is_found_by_method_and_path(method: str, path: str, name: str, model: str) -> None:
    found = surface.find(method, path)
    assert found is not None
    assert (found[0].name, found[1]) == (name, model)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "models/g:generateContent"),
        ("get", "models"),
        ("POST", "models"),
        ("DELETE", "models/g"),
        ("POST", "models/g:GenerateContent"),
        ("POST", "models/g:generateContent/"),
        ("POST", "tunedModels/g:generateContent"),
        ("POST", "models/g:predict"),
        ("GET", "models/g/operations"),
        ("GET", ""),
        ("GET", "models/g:"),
        ("GET", "models/{model}:x"),
        ("POST", "generateContent"),
        ("POST", "openai/images/edits"),
        ("GET", "openai/models/"),
        ("GET", "openai/models/g/h"),
        ("POST", "openai/models/g:generateContent"),
        ("POST", "openai/chat"),
        ("GET", "openai/chat/completions/id"),
    ],
)
def test_what_is_not_in_the_table_is_not_found(method: str, path: str) -> None:
    assert surface.find(method, path) is None


def test_at_finds_the_row_under_another_http_method() -> None:
    row = surface.at("models/g:generateContent")
    assert row is not None
    assert row.method == "POST"
    assert surface.at("files/g") is None


def test_whatever_is_metered_takes_a_body_and_its_model_from_the_path_or_from_that() -> None:
    metered = [row for row in surface.OPERATIONS if row.metered]
    names = ["generateContent", "streamGenerateContent", "embedContent", "batchEmbedContents"]
    compatible = ["openai.chat.completions", "openai.embeddings", "openai.images.generations"]
    assert [row.name for row in metered] == names + compatible
    assert [row.name for row in surface.OPERATIONS if row.streaming] == ["streamGenerateContent"]
    assert all(row.body and row.names_model != row.body_names_model for row in metered)
    assert [row.name for row in metered if row.body_names_model] == compatible


def test_what_lists_models_names_none_and_gets_take_no_body() -> None:
    lists, gets = ["models.list", "openai.models.list"], ["models.get", "openai.models.get"]
    free = [row.name for row in surface.OPERATIONS if not row.body]
    assert [row.name for row in surface.OPERATIONS if not (row.names_model or row.body_names_model)] == lists
    assert sorted(free) == sorted(lists + gets)


def test_no_parameter_that_crosses_can_hide_the_usage_or_carry_a_credential() -> None:
    banned = {
        "fields",
        "$fields",
        "callback",
        "$callback",
        "$ct",
        "$httpMethod",
        "$.xgafv",
        "key",
        "$key",
        "access_token",
    }
    for row in surface.OPERATIONS:
        assert not row.parameters & banned, row.name
