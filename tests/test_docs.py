"""What code names stands in the docs, and what the docs name exists: settings, commands, metrics, reasons, links."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer
from prometheus_client.metrics import MetricWrapperBase
from pydantic import BaseModel

from proxy.billing.assumptions import ASSUMPTIONS
from proxy.billing.records import UsageRecord
from proxy.cli.main import app
from proxy.config.load import GOOGLE_KEYS, SECRETS, read
from proxy.config.quotas import Quota
from proxy.config.schema import Alias, Price, Settings
from proxy.config.upstreams import Upstream
from proxy.errors import Outcome, Reason, Refusal
from proxy.gemini.status import refusal_body
from proxy.gemini.surface import OPERATIONS, Operation
from proxy.telemetry.metrics import Metrics
from proxy.tenants import key_format
from tests.docs.blocks import all_blocks
from tests.journeys.ugly import cases
from tests.pages import PAGES, ROOT, chapter_of, table_of, text_of

_SECTIONS = ("server", "storage", "limits", "gateway", "images", "events", "logs", "tracing")
SECTIONS = {name: type(getattr(Settings(), name)) for name in _SECTIONS}
LISTS: dict[str, type[BaseModel]] = {"upstreams": Upstream, "models": Alias, "prices": Price}
OTHER_VARIABLES = {
    "WEIGHBRIDGE_ADMIN_TOKEN",
    "WEIGHBRIDGE_CONFIG",
    "WEIGHBRIDGE_KEY",
    "WEIGHBRIDGE_TESTS_REQUIRE",
    "WEIGHBRIDGE_URL",  # of the guides
}
BY_TYPER = {"--help", "--install-completion", "--show-completion"}


def _settings() -> Iterator[tuple[str, type[BaseModel], str]]:
    """Heading, model and field of every setting that may be written."""
    for name, model in (SECTIONS | LISTS).items():
        heading = f"[[{name}]]" if name in LISTS else f"[{name}]"
        yield from ((heading, model, field) for field in model.model_fields if field not in SECRETS)


def _literal(value: object) -> str:
    """A default as the docs write it."""
    if value is None:
        return "not set"
    if isinstance(value, Quota):
        return f"`{value}`"
    return f"`{json.dumps(value if isinstance(value, int | float | tuple | str) else str(value))}`"


def _bounds(schema: object) -> Iterator[str]:
    """The numbers and words that bound a setting, wherever they stand in its JSON schema."""
    if isinstance(schema, Mapping):
        for key, value in schema.items():
            if key in ("minimum", "maximum", "exclusiveMinimum"):
                yield str(int(value))
            elif key == "enum":
                yield from (json.dumps(word) for word in value)
            else:
                yield from _bounds(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _bounds(value)


@pytest.mark.parametrize(("heading", "model", "field"), list(_settings()))
def test_every_setting_is_documented_as_it_is(heading: str, model: type[BaseModel], field: str) -> None:
    """A setting's row says its default, its bounds, its environment name, and something beyond them."""
    info = model.model_fields[field]
    row = table_of(chapter_of("docs/configuration.md", heading)).get(info.alias or field)
    assert row is not None, f"docs/configuration.md doesn't list {info.alias or field} under {heading}"
    assert row[1] == ("required" if info.is_required() else _literal(info.default))
    bounds = list(_bounds(model.model_json_schema(mode="serialization")["properties"][info.alias or field]))
    assert [bound for bound in bounds if bound not in row[2]] == []
    if heading.startswith("[["):
        assert len(row) == 4
    else:
        assert row[3] == f"`WEIGHBRIDGE_{heading.strip('[]')}__{field}`".upper()
    assert len(row[-1]) > 10


def test_no_setting_is_documented_that_does_not_exist() -> None:
    """Every row under a section's heading is a setting of that section."""
    for name, model in (SECTIONS | LISTS).items():
        rows = table_of(chapter_of("docs/configuration.md", f"[[{name}]]" if name in LISTS else f"[{name}]"))
        assert rows.keys() <= {info.alias or field for field, info in model.model_fields.items()}


def test_the_configuration_example_is_the_defaults(tmp_path: Path) -> None:
    """The whole file loads as it stands, warns of nothing, names every setting, and changes no default."""
    example = re.search(r"```toml\n(.*?)```", chapter_of("docs/configuration.md", "The whole file"), re.DOTALL)
    assert example is not None
    file = tmp_path / "weighbridge.toml"
    file.write_text(example[1])
    loaded = read(file, {"GEMINI_API_KEY": "some-key"})
    assert loaded.warnings == ()
    defaults = Settings()
    anchored = defaults.storage.model_copy(update={"data_dir": tmp_path / defaults.storage.data_dir})
    for name in SECTIONS:
        assert getattr(loaded.settings, name) == (anchored if name == "storage" else getattr(defaults, name))
    for name, model in (SECTIONS | {"upstreams": Upstream}).items():
        for field in model.model_fields.keys() - set(SECRETS):
            assert re.search(rf"^(# )?{field} = ", example[1], re.MULTILINE), f"{name}.{field} is not in the example"


def test_every_reason_is_documented_as_it_is() -> None:
    """docs/errors.md has a row for each reason, with its HTTP status and its google.rpc code, and no others."""
    rows = table_of(chapter_of("docs/errors.md", "Reasons"))
    assert {word: (row[1], row[2]) for word, row in rows.items()} == {
        reason.word: (str(reason.http), reason.status) for reason in Reason
    }
    assert all(len(row[3]) > 20 and len(row[4]) > 5 for row in rows.values())


def test_example_refusals_are_those_that_are_sent() -> None:
    """Each refusal shown in docs/errors.md is what the gateway door answers with that reason and message."""
    shown = [json.loads(block.text) for block in all_blocks("json") if block.page == "docs/errors.md"]
    assert shown
    for body in shown:
        error = body["error"]
        refusal = Refusal(Reason[error["details"][0]["reason"]], error["message"])
        assert json.loads(refusal_body(refusal, "single")) == body


def test_every_outcome_is_documented() -> None:
    """docs/one-call.md says of each outcome what happened and what it costs."""
    assert table_of(chapter_of("docs/one-call.md", "How a call can end")).keys() == set(Outcome)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_every_operation_is_documented_as_it_is(operation: Operation) -> None:
    """docs/compatibility.md has each operation with its method, its path, and whether it is on the bill."""
    row = table_of(chapter_of("docs/compatibility.md", "What is served"))[operation.name]
    assert row[1:] == [f"`{operation.method} {operation.path}`", "yes" if operation.metered else "free"]


def test_every_query_parameter_that_crosses_is_documented() -> None:
    """docs/compatibility.md names the query parameters of each operation."""
    served = chapter_of("docs/compatibility.md", "What is served")
    camel_case = {name for operation in OPERATIONS for name in operation.parameters if "_" not in name}
    assert [name for name in sorted(camel_case) if f"`{name}`" not in served] == []


def _metric_labels() -> dict[str, tuple[str, ...]]:
    """Each metric's name as it is scraped, and its labels."""
    metrics = Metrics("0", [])
    found: dict[str, tuple[str, ...]] = {}
    for collector in metrics.registry._collector_to_names:
        assert isinstance(collector, MetricWrapperBase)
        family = next(iter(collector.describe()))
        found[f"{family.name}_total" if family.type == "counter" else family.name] = tuple(collector._labelnames)
    return found


def test_every_metric_is_documented_as_it_is() -> None:
    """docs/metrics.md has a row for each metric that is declared, with its labels and its unit, and no others. Each
    says what it is, and when to worry; so does its help."""
    rows = table_of(text_of("docs/metrics.md").partition("## ")[0])
    shown = {name: tuple(re.findall(r"`(\w+)`", row[2])) for name, row in rows.items()}
    assert shown == _metric_labels()
    assert all(row[1] in ("counter", "gauge", "histogram") and len(row[4]) > 10 and row[5] for row in rows.values())
    assert {name: row[3] for name, row in rows.items()} == {name: unit for name, (_, unit, _) in _metric_help().items()}


def _metric_help() -> dict[str, tuple[str, str, str]]:
    """What each metric's help says: what it is, its unit, and when to worry."""
    found: dict[str, tuple[str, str, str]] = {}
    when = "when|at|from|below|while|before"
    for collector in Metrics("0", []).registry._collector_to_names:
        family = next(iter(collector.describe()))
        text = family.documentation
        said = re.fullmatch(rf"(\S.{{8,}})\. Unit: ([^.]+)\. Worry ((?:{when}) .{{4,}})\.", text)
        assert said is not None, f"{family.name} doesn't say its unit, or when to worry: {text}"
        name = f"{family.name}_total" if family.type == "counter" else family.name
        found[name] = said[1], said[2], said[3]
    return found


def test_metrics_named_in_any_page_exist() -> None:
    """No page asks for a metric that isn't there."""
    known = {*_metric_labels()} | {f"{name}{of}" for name in _metric_labels() for of in ("_bucket", "_sum", "_count")}
    named = {(page.name, name) for page in PAGES for name in re.findall(r"\bweighbridge_\w+", page.read_text("utf-8"))}
    assert {(page, name) for page, name in named if name not in known} == set()


def _commands(group: Any, words: tuple[str, ...] = ("weighbridge",)) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command and the root, by the words that call it."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, (*words, name))
        else:
            yield (*words, name), command


def _all_commands() -> dict[tuple[str, ...], Any]:
    root = typer.main.get_command(app)
    return {("weighbridge",): root, **dict(_commands(root))}


def _documented_commands() -> dict[tuple[str, ...], str]:
    """Each command's heading in docs/commands.md: words in lower case, and the arguments behind them."""
    headings = re.findall(r"^#+ (`?weighbridge\b.*)$", text_of("docs/commands.md"), re.MULTILINE)
    return {tuple(re.findall(r"(?<![\w\[])[a-z]+\b", heading)): heading for heading in headings}


def test_every_command_is_documented() -> None:
    """docs/commands.md has a heading for each command, and for no other."""
    assert _documented_commands().keys() == _all_commands().keys()


@pytest.mark.parametrize("words", list(_all_commands()), ids=" ".join)
def test_every_option_is_documented(words: tuple[str, ...]) -> None:
    """A command's chapter names its arguments and each of its options, and no option that it doesn't have."""
    heading = _documented_commands()[words]
    chapter = chapter_of("docs/commands.md", heading)
    named = set(re.findall(r"(?<!\w)--?[a-z][\w-]*", chapter.partition("## Serve")[0]))
    has: set[str] = set()
    for parameter in _all_commands()[words].params:
        if parameter.param_type_name == "argument":
            assert (parameter.metavar or parameter.name.upper()) in heading
        else:
            has |= {*parameter.opts, *parameter.secondary_opts}
    assert named - has - BY_TYPER == set()
    assert has - named - BY_TYPER == set()


def _called() -> Iterator[tuple[str, list[str]]]:
    """Each call of the command in a block of shell, as a place and its words."""
    for block in all_blocks("sh", "console"):
        for line in block.text.replace("\\\n", " ").splitlines():
            if found := re.search(r"(?:^|[$(|&;] ?|=\S+ )weighbridge ([^|>;#)]*)", line):
                yield f"{block.where}: {line}", found[1].split()


def test_commands_in_examples_exist() -> None:
    """Every `weighbridge …` in a block of shell is a command that exists, with options that it has."""
    commands = _all_commands()
    for where, words in _called():
        depth = next((n for n in (2, 1, 0) if ("weighbridge", *words[:n]) in commands), 0)
        command = commands["weighbridge", *words[:depth]]
        assert depth or words[0].startswith("-"), f"{where}: no such command"
        options = {option for parameter in command.params for option in parameter.opts} | BY_TYPER
        asked = {word.partition("=")[0] for word in words[depth:] if re.match(r"--?[a-z]", word)}
        assert asked <= options, f"{where}: {asked - options}"


def test_every_column_of_a_record_is_documented() -> None:
    """docs/commands.md says of each column of the export what it is."""
    chapter = chapter_of("docs/commands.md", "`weighbridge usage export`")
    columns = {field.name for field in msgspec.structs.fields(UsageRecord)}
    firsts = [cells[0] for line in chapter.splitlines() if (cells := line.split("|")[1:-1])]
    assert {name for first in firsts for name in re.findall(r"`([a-z]\w*)`", first)} == columns


def test_environment_variables_named_in_any_page_exist() -> None:
    """No page names a WEIGHBRIDGE_ variable that nothing reads."""
    known = {f"WEIGHBRIDGE_{name}__{field}".upper() for name, model in SECTIONS.items() for field in model.model_fields}
    named = {name for page in PAGES for name in re.findall(r"WEIGHBRIDGE_[A-Z0-9_]+\b", page.read_text("utf-8"))}
    assert {name for name in named if not name.endswith("_")} <= known | OTHER_VARIABLES
    assert set(GOOGLE_KEYS) <= set(re.findall(r"\w+", text_of("docs/configuration.md")))


def test_every_assumption_is_documented_as_it_is() -> None:
    """docs/metering.md has a row for each assumption: what is assumed, why, how it shows; estimates have figures."""
    rows = table_of(chapter_of("docs/metering.md", "Assumptions"))
    assert {name: (row[1], row[3]) for name, row in rows.items()} == {
        name: (one.says, one.bill) for name, one in ASSUMPTIONS.items() if name.startswith("A-")
    }
    assert all(len(row[2]) > 10 for row in rows.values())
    figures = table_of(chapter_of("docs/metering.md", "Estimates"))
    assert figures.keys() == {name for name in ASSUMPTIONS if name.startswith("E-")}
    held = table_of(chapter_of("docs/budgets.md", "What is held"))
    assert {name for name in held if name.startswith("W-")} == {name for name in ASSUMPTIONS if name.startswith("W-")}


def _anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_resolves(page: Path) -> None:
    """Each link to a file of this repository leads to one, and its fragment to a heading there."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in _anchors(linked), f"{page.name} links to {target}, and there is no such heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_source_files_and_make_targets_named_in_a_page_exist(page: Path) -> None:
    """Each path to a Python file in backticks exists, from the root or from proxy/; so does each make target."""
    text = page.read_text("utf-8")
    paths = re.findall(r"`([\w/]+/\w+\.py)`", text)
    assert [path for path in paths if not (ROOT / path).exists() and not (ROOT / "proxy" / path).exists()] == []
    makefile = text_of("Makefile")
    targets = re.findall(r"(?:`|^|\$ )make ([a-z]+)", text, re.MULTILINE)
    assert [target for target in targets if not re.search(rf"^{target}:", makefile, re.MULTILINE)] == []


def test_the_pattern_for_secret_scanners_finds_keys() -> None:
    """SECURITY.md's pattern matches a key as it is minted, within a line of text."""
    pattern = re.search(r"^\s*(\\b?wb_.*|wb_.*)$", chapter_of("SECURITY.md", "What a key looks like"), re.MULTILINE)
    assert pattern is not None
    minted = key_format.mint(lambda below: below - 1)
    found = re.search(pattern[1], f'key = "{minted}"')
    assert found is not None
    assert found[0] == minted


def test_what_the_docs_say_of_the_checksum_tells_a_key_from_junk() -> None:
    """docs/keys.md publishes the pattern of SECURITY.md, and code for the checksum that does what ours does."""
    found = chapter_of("docs/keys.md", "To find one")
    pattern, code = (re.search(rf"```{language}\n(.*?)```", found, re.DOTALL) for language in ("text", "python"))
    assert pattern is not None
    assert pattern[1].strip() in chapter_of("SECURITY.md", "What a key looks like")
    assert code is not None
    published: dict[str, Any] = {}
    exec(code[1], published)
    for seed in range(100):
        key = key_format.mint(random.Random(seed).randrange)
        assert published["is_key"](key)
        assert not published["is_key"](key[:-1] + ("0" if key[-1] != "0" else "1"))
        assert not published["is_key"](key[:-1])


def _tests() -> dict[str, str]:
    """Every test function, and its parameters."""
    paths = (path for path in (ROOT / "tests").rglob("test_*.py") if "node_modules" not in path.parts)
    return {name: rest for path in paths for name, rest in re.findall(r"def (test_\w+)\(([^)]*)\)", path.read_text())}


def test_each_bill_that_went_wrong_elsewhere_has_a_test_here() -> None:
    """Each row names threads by their addresses, and tests that exist; in brackets, a case of the corpus."""
    rows = re.findall(
        r"^\| (\[.*) \| (.*) \| (.*) \|$", chapter_of("docs/metering.md", "What went wrong elsewhere"), re.M
    )
    tests, known = _tests(), {case.name for case in cases()}
    assert len(rows) > 25
    for threads, what, named in rows:
        for thread, link in re.findall(r"\[([^]]+)\]\(([^)]+)\)", threads):
            assert link == f"https://github.com/{thread.replace('#', '/issues/')}"
        found = re.findall(r"`(test_\w+)(?:\[([^`]+)\])?`", named)
        assert found
        assert len(what) > 20
        assert [name for name, _ in found if name not in tests] == []
        assert [case for name, case in found if case and (name != "test_the_bill" or case not in known)] == []


def test_every_proof_is_told_of() -> None:
    """By the name that its result bears in tests/results."""
    proofs = {name.removeprefix("test_") for name, rest in _tests().items() if "proof: Proof" in rest}
    assert proofs
    assert sorted(proofs - set(re.findall(r"`(\w+)`", (ROOT / "docs" / "proofs.md").read_text("utf-8")))) == []


@pytest.mark.parametrize("folder", ["gateway", "upstreams"])
def test_every_file_of_the_data_plane_is_on_the_map(folder: str) -> None:
    """In the row of its folder."""
    row = re.search(rf"^\| `{folder}/` \|.*$", (ROOT / "docs" / "architecture.md").read_text("utf-8"), re.MULTILINE)
    assert row is not None
    files = {path.name for path in (ROOT / "proxy" / folder).glob("*.py")} - {"__init__.py"}
    assert files - set(re.findall(r"`(\w+\.py)`", row[0])) == set()
