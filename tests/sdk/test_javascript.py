"""@google/genai on Node, unchanged but for base URL and key: what it returns through Weighbridge is what it returns
from the upstream itself."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sdk.conftest import Way, crossing, targets
from tests.sdk.node import run
from tests.sdk.scenarios import SCENARIOS, TEXT, Scenario

Results = dict[str, list[dict[str, Any]]]
GREETING = next(scenario for scenario in SCENARIOS if scenario.name == "text")


def options(way: Way, **http: str) -> dict[str, Any]:
    return {"apiKey": way.key, "httpOptions": {"baseUrl": way.base_url, **http}}


@pytest.fixture(scope="module")
def results(direct: Way, through: Way) -> tuple[Results, Results]:
    """All scenarios, played straight and through Weighbridge."""
    return play(options(direct), *SCENARIOS), play(options(through), *SCENARIOS)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_node(scenario: Scenario, results: tuple[Results, Results]) -> None:
    """Every response, chunk and exception is the same both ways."""
    straight, weighed = (shown(result[scenario.name]) for result in results)
    assert scenario.shows in str(straight)
    assert weighed == straight


def test_each_api_version_crosses_as_asked(direct: Way, through: Way) -> None:
    """apiVersion goes up as it came, and answers."""
    versions = ("v1", "v1beta", "v1alpha")
    with targets(direct) as seen:
        for version in versions:
            assert answers(play(options(through, apiVersion=version), GREETING))
    assert seen == [f"/{version}/models/{TEXT}:generateContent" for version in versions]


@pytest.mark.parametrize("ending", ["/", "/v1beta"])
def test_base_urls_as_pasted(ending: str, direct: Way, through: Way) -> None:
    """A trailing slash, or the version that Google's own snippets have in their URL, does no harm."""
    with targets(direct) as seen:
        assert answers(play(options(Way(through.base_url + ending, through.key)), GREETING))
    assert seen == [f"/v1/models/{TEXT}:generateContent"]


def test_base_url_and_key_from_the_environment(direct: Way, through: Way) -> None:
    """Code that names neither base URL nor key needs no change: both come from the variables that the SDK reads."""
    with targets(direct) as seen:
        assert answers(play({}, GREETING, GOOGLE_GEMINI_BASE_URL=through.base_url, GOOGLE_API_KEY=through.key))
    assert len(seen) == 1


def test_a_wrong_key_is_refused_as_google_does(direct: Way, through: Way) -> None:
    """A key that isn't known throws what Google's refusal throws; only the domain of the ErrorInfo is ours."""
    ways = (options(Way(way.base_url, "wrong")) for way in (direct, through))
    straight, weighed = (play(way, GREETING)[GREETING.name][0] for way in ways)
    assert (weighed["raised"], weighed["status"]) == (straight["raised"], straight["status"]) == ("ApiError", 400)
    assert "API key not valid. Please pass a valid API key." in weighed["message"]
    assert '"domain":"weighbridge"' in weighed["message"]


def play(options: dict[str, Any], *scenarios: Scenario, **environment: str) -> Results:
    """What each scenario brought, by its name."""
    given = {"options": options, "scenarios": [scenario.as_json() for scenario in scenarios]}
    results: Results = run("play.mjs", given, environment)
    return results


def answers(results: Results) -> bool:
    return GREETING.shows in str(results[GREETING.name])


def shown(pieces: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The whole of what was returned or thrown, without what is listed as different and each response's own id."""
    kept = []
    for piece in pieces:
        dump = piece | ({"responseId": "one"} if piece.get("responseId") else {})
        if http := piece.get("sdkHttpResponse"):
            dump["sdkHttpResponse"] = http | {"headers": crossing(http["headers"])}
        kept.append(dump)
    return kept
