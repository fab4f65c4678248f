"""Projects: made, listed, shown, disabled. A project is a tenant: what keys, and the bill, belong to."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import NamedTuple

from sqlalchemy import Connection, select

from proxy.store.database import Database
from proxy.store.tables import projects

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


class TenancyError(Exception):
    """Something was asked of projects or keys that can't be done; the text says why, and what to do."""


class BadNameError(TenancyError):
    """A name breaks the rule for names."""


class ProjectExistsError(TenancyError):
    """The name is taken."""


class UnknownProjectError(TenancyError):
    """There is no such project."""


class Project(NamedTuple):
    """A project as stored. Times are Unix microseconds; `disabled_at` is None while its keys are served."""

    name: str
    created_at: int
    disabled_at: int | None


def create(database: Database, name: str, now: int) -> Project:
    """Makes a project. Raises BadNameError, ProjectExistsError, StoreError."""
    if not _NAME.fullmatch(name):
        raise BadNameError(
            f"{name!r} can't be a project's name: write 1 to 63 lower-case letters, digits, '-' and '_', "
            "beginning with a letter or a digit"
        )
    project = Project(name, now, None)
    with database.writing() as connection:
        if connection.execute(select(projects).where(projects.c.name == name)).first():
            raise ProjectExistsError(f"a project {name!r} exists already: `weighbridge project show {name}` shows it")
        connection.execute(projects.insert().values(**project._asdict()))
    return project


def list_projects(database: Database) -> list[Project]:
    """All projects, by name. Raises StoreError."""
    with database.reading() as connection:
        return [Project(*row) for row in connection.execute(select(projects).order_by(projects.c.name))]


def show(database: Database, name: str) -> Project:
    """One project. Raises UnknownProjectError, StoreError."""
    with database.reading() as connection:
        return find(connection, name)


def disable(database: Database, name: str, now: int) -> Project:
    """Has the project's keys refused from within 2 s on; its records stay. Done twice, the first time stands.

    Raises UnknownProjectError, StoreError.
    """
    with database.writing() as connection:
        project = find(connection, name)
        if project.disabled_at is None:
            project = project._replace(disabled_at=now)
            connection.execute(projects.update().where(projects.c.name == name).values(disabled_at=now))
        return project


def find(connection: Connection, name: str) -> Project:
    """One project, within a transaction. Raises UnknownProjectError, which names the nearest one."""
    row = connection.execute(select(projects).where(projects.c.name == name)).first()
    if row is None:
        near = get_close_matches(name, connection.scalars(select(projects.c.name)), n=1)
        advice = f"did you mean {near[0]!r}?" if near else "`weighbridge project list` names those there are"
        raise UnknownProjectError(f"there is no project {name!r}; {advice}")
    return Project(*row)
