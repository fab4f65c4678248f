"""Where things stand: a module and its test are twins, files and functions stay short, names say what is inside."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
MAX_FILE = 400
MAX_FUNCTION = 60
BANNED_NAMES = {"utils", "util", "helpers", "common", "base", "manager", "managers", "misc"}

WITHOUT_TWIN = {
    "__main__.py": "starts the command; tests/journeys run it as users do",
    "app.py": "puts the parts together; tests/journeys use it whole",
    "serve.py": "processes and signals; tests/journeys send them to a real process",
    "errors.py": "names and exceptions without behaviour",
    "data_plane.py": "puts parts together; tests/journeys begin with it",
    "control_plane.py": "puts parts together; tests/journeys begin with it",
    "clock.py": "the system's clock",
    "process.py": "names without behaviour",
    "billing/ledger_errors.py": "exceptions without behaviour",
    "cli/image/native.py": "tests/cli/image/test_command.py asks in this shape",
    "cli/serve.py": "tests/journeys run it as users do",
    "cli/snippets.py": "tests/journeys/test_snippets.py runs each",
    "config/section.py": "what sections share; tests/config hold each of them",
    "gateway/images/drawing.py": "one call; tests/journeys/test_openai_images.py makes them over real sockets",
    "gateway/images/front.py": "a request whole; tests/journeys/test_openai_images.py makes them over real sockets",
    "gateway/relay.py": "one call; tests/journeys make it over real sockets",
    "gateway/trace.py": "a request's spans; tests/journeys/test_traces.py sees them at a collector",
    "gateway/traced.py": "puts spans around calls; tests/journeys/test_traces.py sees them at a collector",
    "gateway/weigher.py": "before a call; tests/journeys make calls, tests/contracts holds the books",
    "gateway/weighing.py": "the ledger's side of a call; tests/journeys hold it against the emulator's account",
    "store/store_error.py": "an exception; tests/billing/test_shipping.py holds what its codes lead to",
    "store/upsert.py": "tests/contracts/test_database.py asks each database in its words",
    "upstreams/transport.py": "an interface; its adapters are tested",
}
"""Modules under proxy/ that no single test file is about, and why. `__init__.py` and migrations need no reason."""

WITHOUT_MODULE = {"chaos", "deploy", "docs", "journeys", "contracts", "transport", "sdk", "browser"}
"""Folders of tests/ that are about the whole."""


def _sources(folder: str) -> list[Path]:
    return [path for path in sorted((ROOT / folder).rglob("*.py")) if "node_modules" not in path.parts]


def _modules() -> dict[str, str]:
    """Each module of proxy/ that is to have a twin, and that twin's path under tests/."""
    twins = {}
    for path in _sources("proxy"):
        module = path.relative_to(ROOT / "proxy")
        if module.name != "__init__.py" and "migrations" not in module.parts:
            twins[module.as_posix()] = module.with_name(f"test_{module.name}").as_posix()
    return twins


def _tests() -> set[str]:
    """Each test file that is to have a twin: those in a folder of tests/ that mirrors one of proxy/."""
    found = (path.relative_to(ROOT / "tests") for path in _sources("tests") if path.name.startswith("test_"))
    return {test.as_posix() for test in found if len(test.parts) > 1 and test.parts[0] not in WITHOUT_MODULE}


@cache
def _parsed() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text("utf-8")) for name in ("proxy", "tests", "bench") for path in _sources(name)}


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_every_module_has_its_test() -> None:
    """proxy/x/y.py is tested in tests/x/test_y.py, unless WITHOUT_TWIN says why not."""
    missing = {module: twin for module, twin in _modules().items() if not (ROOT / "tests" / twin).is_file()}
    assert sorted(missing.keys() - WITHOUT_TWIN.keys()) == []


def test_no_exception_is_stale() -> None:
    """Whatever WITHOUT_TWIN excuses is there and has no test file of its own."""
    modules = _modules()
    assert sorted(WITHOUT_TWIN.keys() - modules.keys()) == []
    assert [module for module in WITHOUT_TWIN if (ROOT / "tests" / modules[module]).exists()] == []


def test_every_test_has_its_module() -> None:
    """A test file in a folder that mirrors proxy/ is about a module that exists."""
    assert sorted(_tests() - set(_modules().values())) == []


def test_files_are_short() -> None:
    """No file is longer than 400 lines."""
    counts = {path: len(path.read_text("utf-8").splitlines()) for path in _parsed()}
    assert {str(path.relative_to(ROOT)): count for path, count in counts.items() if count > MAX_FILE} == {}


def test_functions_are_short() -> None:
    """No function is longer than 60 lines, its decorators and docstring included."""
    long = {}
    for path, tree in _parsed().items():
        for function in _functions(tree):
            first = min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)])
            length = (function.end_lineno or first) - first + 1
            if length > MAX_FUNCTION:
                long[f"{path.relative_to(ROOT)}:{function.name}"] = length
    assert long == {}


def test_first_line_says_what_is_in_the_file() -> None:
    """Every module of proxy/ and bench/ begins with a docstring on its first line."""
    without = []
    for path, tree in _parsed().items():
        docstring = tree.body[0] if tree.body else None
        is_text = isinstance(docstring, ast.Expr) and isinstance(docstring.value, ast.Constant)
        if path.relative_to(ROOT).parts[0] != "tests" and not (is_text and docstring and docstring.lineno == 1):
            without.append(str(path.relative_to(ROOT)))
    assert without == []


def test_no_module_is_named_for_nothing() -> None:
    """No module or folder is called utils, helpers, common, base or manager: its name would not say what is in it."""
    named = [path for path in _parsed() if BANNED_NAMES & {path.stem, path.parent.name}]
    assert [str(path.relative_to(ROOT)) for path in named] == []
