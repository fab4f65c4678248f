"""What doctor says of the upstreams together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from proxy.cli.doctor.findings import Finding, Verdict
from proxy.cli.doctor.pool import check_pool
from proxy.config.schema import Storage
from proxy.config.upstreams import Upstream
from proxy.store.database import open_database, upgrade
from proxy.tenants import disabled_upstreams
from tests.cli.doctor.folders import untouched


def upstream(name: str, **settings: Any) -> Upstream:
    return Upstream.model_validate({"name": name, "api_key": f"key-of-{name}", "api_key_env": "KEY"} | settings)


def look(folder: Path, *upstreams: Upstream) -> list[Finding]:
    with untouched(folder):
        return list(check_pool(upstreams, Storage(data_dir=folder)))


def test_a_pool_that_is_fine_is_one_line_also_before_there_is_a_database(tmp_path: Path) -> None:
    assert look(tmp_path, upstream("a")) == [Finding(Verdict.OK, "a is enabled")]
    assert look(tmp_path, upstream("a", models=["gemini-3*"]), upstream("b")) == [
        Finding(Verdict.OK, "all 2 are enabled")
    ]
    assert not list(tmp_path.iterdir())


def test_those_that_are_disabled_are_named_whichever_database_says_so(each_storage: Storage) -> None:
    assert [each.verdict for each in check_pool([upstream("a")], each_storage)] == [Verdict.OK]
    upgrade(each_storage)
    disabled_upstreams.disable(open_database(each_storage), "a", 5, actor="test")
    found, _ = check_pool([upstream("a"), upstream("b")], each_storage)
    assert (found.verdict, found.what) == (Verdict.WARNING, "a is disabled: it gets no calls")


def test_those_that_are_disabled_are_named(tmp_path: Path) -> None:
    database = open_database(Storage(data_dir=tmp_path))
    for name in ("a", "gone"):
        disabled_upstreams.disable(database, name, 5, actor="test")
    off, rest = look(tmp_path, upstream("a"), upstream("b"))
    assert (off.verdict, off.what) == (Verdict.WARNING, "a is disabled: it gets no calls")
    assert "weighbridge upstreams enable a" in off.do
    assert rest == Finding(Verdict.OK, "1 of 2 are enabled")


def test_where_all_are_disabled_nothing_is_served(tmp_path: Path) -> None:
    disabled_upstreams.disable(open_database(Storage(data_dir=tmp_path)), "a", 5, actor="test")
    (found,) = look(tmp_path, upstream("a"))
    assert (found.verdict, "every upstream is disabled" in found.what) == (Verdict.PROBLEM, True)


def test_what_none_of_those_that_are_asked_serves_is_told(tmp_path: Path) -> None:
    models = upstream("a", models=["gemini-3*"]), upstream("b", models=["gemini-2*", "gemini-3*"])
    _, found = look(tmp_path, *models)
    assert found.what == "no upstream serves all models: together they serve gemini-3*, gemini-2*"
    _, found = look(tmp_path, upstream("a", projects=["alice"]))
    assert found.what == "no upstream serves all projects: together they serve alice"
    _, found = look(tmp_path, upstream("a", projects=["alice"]), upstream("b", models=["gemini-3*"]))
    assert (found.verdict, found.what) == (Verdict.WARNING, "no upstream serves all models for all projects")
    disabled_upstreams.disable(open_database(Storage(data_dir=tmp_path)), "whole", 5, actor="test")
    assert len(look(tmp_path, *models, upstream("whole"))) == 3, "one that is disabled serves nothing"


def test_a_key_that_is_listed_twice_is_told_and_not_shown(tmp_path: Path) -> None:
    _, found = look(tmp_path, upstream("a", api_key="x-secret"), upstream("b"), upstream("c", api_key="x-secret"))
    assert found.verdict is Verdict.WARNING
    assert found.what.startswith("a, c have the same key")
    assert "x-secret" not in found.what + found.do
    elsewhere = upstream("c", api_key="x-secret", base_url="https://elsewhere.example.com")
    assert len(look(tmp_path, upstream("a", api_key="x-secret"), elsewhere)) == 1


def test_a_database_that_cannot_be_read_hides_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "weighbridge.db").write_text("no database" * 1000)
    assert look(tmp_path, upstream("a")) == [Finding(Verdict.OK, "a is enabled")]
