"""Projects: made, listed, shown, changed, disabled. A project is a tenant: what keys, limits and the bill belong to."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from difflib import get_close_matches
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, select

from proxy.config import limits as notation
from proxy.config.limits import Limit
from proxy.store.database import Database
from proxy.store.tables import projects
from proxy.telemetry.labels import OTHER
from proxy.telemetry.redaction import redact
from proxy.tenants import audit
from proxy.tenants.policy import ALL, check_models, read_limits, read_texts, write_texts

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


class TenancyError(Exception):
    """Something was asked of projects or keys that can't be done; the text says why, and what to do."""


class BadNameError(TenancyError):
    """A name breaks the rule for names."""


class BadOptionError(TenancyError):
    """A limit, a glob, an address or a time is none."""


class ProjectExistsError(TenancyError):
    """The name is taken."""


class UnknownProjectError(TenancyError):
    """There is no such project."""


class Project(NamedTuple):
    """A project as stored. Times are Unix microseconds; `disabled_at` is None while its keys are served."""

    name: str
    created_at: int
    disabled_at: int | None
    limits: tuple[Limit, ...] = ()
    models: tuple[str, ...] = ALL


@contextmanager
def bad_options() -> Iterator[None]:
    """Makes a BadOptionError of a ValueError."""
    try:
        yield
    except ValueError as error:
        raise BadOptionError(str(error)) from None


def create(
    database: Database,
    name: str,
    now: int,
    *,
    actor: str,
    limits: tuple[Limit, ...] = (),
    models: Sequence[str] = ALL,
) -> Project:
    """Makes a project. Raises BadNameError, BadOptionError, ProjectExistsError, StoreError."""
    if not _NAME.fullmatch(name):
        raise BadNameError(
            f"{redact(name[:80])!r} can't be a project's name: write 1 to 63 lower-case letters, digits, '-' and '_', "
            "beginning with a letter or a digit"
        )
    if name == OTHER:
        raise BadNameError(f"{name!r} is what metrics call all projects past their bound: choose another name")
    with bad_options():
        project = Project(name, now, None, limits, check_models(models))
    with database.writing() as connection:
        if connection.execute(select(projects).where(projects.c.name == name)).first():
            raise ProjectExistsError(f"a project {name!r} exists already: `weighbridge project show {name}` shows it")
        connection.execute(projects.insert().values(_row(project)))
        audit.note(connection, "project.create", name, at=now, actor=actor, before={}, after=_told(project))
    return project


def update(
    database: Database,
    name: str,
    now: int,
    *,
    actor: str,
    limits: Sequence[str] = (),
    models: Sequence[str] | None = None,
) -> Project:
    """Changes what is named, in force within 2 s, and leaves the rest.

    `limits` are changes: "rpm=60" sets one, "rpm=none" takes it away. Raises BadOptionError, UnknownProjectError,
    StoreError.
    """
    with database.writing() as connection:
        project = find(connection, name)
        with bad_options():
            changed = project._replace(
                limits=notation.change(project.limits, limits),
                models=project.models if models is None else check_models(models),
            )
        return _change(connection, "project.update", project, changed, now, actor)


def credit(database: Database, name: str, usd: str, now: int, *, actor: str) -> Project:
    """Adds USD, as a limit's text has them, to what the project may spend in all: its budget of all models, per total.

    Where it has none, that is made. Raises BadOptionError, UnknownProjectError, StoreError.
    """
    with bad_options():
        added = notation.parse(f"usd={usd},per=total")
    if not added.value:
        raise BadOptionError("a credit of 0 USD adds nothing: write how much, as in 25 or 2.50")
    with database.writing() as connection:
        project = find(connection, name)
        with bad_options():
            limits = notation.change(project.limits, [str(replace(added, value=(prepaid(project) or 0) + added.value))])
        changed = project._replace(limits=limits)
        return _change(connection, "project.credit", project, changed, now, actor, credit_usd=usd)


def prepaid(project: Project) -> int | None:
    """What it may spend in all, in nano-dollars; None where nothing bounds that."""
    alike = Limit("usd", 0, per="total")
    return next((one.value for one in project.limits if one == replace(alike, value=one.value)), None)


def disable(database: Database, name: str, now: int, *, actor: str) -> Project:
    """Has the project's keys refused from within 2 s on; its records stay. Done twice, the first time stands.

    Raises UnknownProjectError, StoreError.
    """
    with database.writing() as connection:
        project = find(connection, name)
        changed = project if project.disabled_at is not None else project._replace(disabled_at=now)
        return _change(connection, "project.disable", project, changed, now, actor)


def enable(database: Database, name: str, now: int, *, actor: str) -> Project:
    """Has the keys of a disabled project served again. Raises UnknownProjectError, StoreError."""
    with database.writing() as connection:
        project = find(connection, name)
        return _change(connection, "project.enable", project, project._replace(disabled_at=None), now, actor)


def list_projects(database: Database) -> list[Project]:
    """All projects, by name. Raises StoreError."""
    with database.reading() as connection:
        return [_project(row) for row in connection.execute(select(projects).order_by(projects.c.name))]


def show(database: Database, name: str) -> Project:
    """One project. Raises UnknownProjectError, StoreError."""
    with database.reading() as connection:
        return find(connection, name)


def find(connection: Connection, name: str) -> Project:
    """One project, within a transaction. Raises UnknownProjectError, which names the nearest one."""
    row = None
    if _NAME.fullmatch(name):  # no other is there; and PostgreSQL can't even be asked for one with a NUL in it
        row = connection.execute(select(projects).where(projects.c.name == name)).first()
    if row is None:
        near = get_close_matches(name[:80], connection.scalars(select(projects.c.name)), n=1)
        advice = f"did you mean {near[0]!r}?" if near else "`weighbridge project list` names those there are"
        raise UnknownProjectError(f"there is no project {redact(name[:80])!r}; {advice}")
    return _project(row)


def _change(
    connection: Connection, action: str, project: Project, changed: Project, now: int, actor: str, **more: str
) -> Project:
    """Writes a project anew, and who changed it; nothing where nothing changed. `more` is what the event tells, too."""
    if changed != project:
        connection.execute(projects.update().where(projects.c.name == project.name).values(_row(changed)))
        before, after = _told(project), _told(changed) | more
        audit.note(connection, action, project.name, at=now, actor=actor, before=before, after=after)
    return changed


def _row(project: Project) -> dict[str, Any]:
    return project._asdict() | {"limits": write_texts(project.limits), "models": write_texts(project.models)}


def _project(row: Row[Any]) -> Project:
    return Project(row.name, row.created_at, row.disabled_at, read_limits(row.limits), read_texts(row.models))


def _told(project: Project) -> dict[str, Any]:
    """A project as audit events tell of it."""
    return {
        "limits": [str(limit) for limit in project.limits],
        "models": list(project.models),
        "disabled_at": project.disabled_at,
    }
