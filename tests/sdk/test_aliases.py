"""The official SDKs by aliases: what they return is what the models behind them return."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from google import genai

from tests.sdk import test_javascript, test_python
from tests.sdk.conftest import Way
from tests.sdk.scenarios import EMBEDDING, GENERATING, IMAGE, OTHERS, STREAMING, TEXT, Scenario
from tests.stand import weighbridge

MINE = {TEXT: "our-text", IMAGE: "our-pictures", EMBEDDING: "our-gemini-embedding-2"}
"""The last is called so because both SDKs go by that name: under it, several texts are one embedding."""
SCENARIOS = tuple(each for each in (*GENERATING, *STREAMING, *OTHERS) if each.method not in ("get", "list"))


@pytest.fixture(scope="module")
def aliased(direct: Way, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    models = [{"match": alias, "use": model} for model, alias in MINE.items()]
    with weighbridge(tmp_path_factory.mktemp("aliases"), direct.base_url, {"models": models}) as running:
        yield Way(running.base_url, running.key())


def by_alias(scenario: Scenario) -> Scenario:
    given = scenario.arguments
    return replace(scenario, arguments={**given, "model": MINE[given["model"]]})


def test_python_by_aliases(direct: Way, aliased: Way) -> None:
    """Generating, streaming, chats, counting and embedding: every response, chunk and exception is the same."""
    with test_python.client(direct) as straight, test_python.client(aliased) as weighed:
        for scenario in SCENARIOS:
            expected = test_python.shown(test_python.play(straight, scenario))
            assert scenario.shows in str(expected)
            assert test_python.shown(test_python.play(weighed, by_alias(scenario))) == expected, scenario.name


def test_javascript_by_aliases(direct: Way, aliased: Way) -> None:
    expected = test_javascript.play(test_javascript.options(direct), *SCENARIOS)
    came = test_javascript.play(test_javascript.options(aliased), *map(by_alias, SCENARIOS))
    for scenario in SCENARIOS:
        assert test_javascript.shown(came[scenario.name]) == test_javascript.shown(expected[scenario.name])


def test_aliases_stand_in_the_pages_of_a_list_and_may_be_asked_for_by_themselves(direct: Way, aliased: Way) -> None:
    """Each on the page of its model, right behind it; the SDK pages on as ever."""
    with test_python.client(direct) as straight, test_python.client(aliased) as weighed:
        expected: list[genai.types.Model] = []
        for model in straight.models.list(config={"page_size": 10}):
            expected.append(model)
            if alias := MINE.get((model.name or "").removeprefix("models/")):
                expected.append(model.model_copy(update={"name": f"models/{alias}"}))
        assert len(expected) > 20
        assert list(weighed.models.list(config={"page_size": 10})) == expected
        for alias in MINE.values():
            (own,) = (model for model in expected if model.name == f"models/{alias}")
            assert weighed.models.get(model=alias) == own
