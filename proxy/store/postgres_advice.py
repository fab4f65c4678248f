"""What an error of PostgreSQL, or on the way to it, says to whoever runs it: what happened, and what to do."""

from __future__ import annotations

import re

import psycopg

_BY_STATE = {
    "42501": "grant its user the rights that docs/postgresql.md lists, or run this as the tables' owner",
    "42P01": "bring the database to this version's schema: `weighbridge db upgrade`",
    "42703": "bring the database to this version's schema: `weighbridge db upgrade`",
    "3F000": "the user's search_path leads to no schema: see docs/postgresql.md",
    "57014": "it is overloaded, or another transaction holds what this one wants: see pg_stat_activity",
    "55P03": "another transaction holds what this one wants: see pg_stat_activity",
    "40P01": "two transactions wanted what the other one had: try again",
    "25006": "it is a standby, or set to read-only: name the primary in storage.database_url, or list all servers and "
    "add ?target_session_attrs=read-write",
    "53100": "its disk is full",
    "53200": "it is out of memory",
    "57P01": "it was stopped in the midst of it: try again",
    "25P03": "this process did nothing for too long while others waited for it: try again",
}
"""By SQLSTATE: https://www.postgresql.org/docs/current/errcodes-appendix.html"""

_BY_TEXT = (
    ("password authentication failed|no password supplied|SASL|empty password", "password"),
    ("database .* does not exist|no such database", "make that database, or name another one in storage.database_url"),
    ("role .* does not exist|no such user", "make that user, or name another one in storage.database_url"),
    (
        "no pg_hba.conf entry|pg_hba.conf rejects",
        "its pg_hba.conf doesn't let this user in from here: add a line for it, or use TLS (?sslmode=require)",
    ),
    (
        "does not support SSL|server refused SSL|SSL required|no encryption|SSL is not enabled",
        "one side wants TLS and the other doesn't: see ssl in postgresql.conf, and sslmode in storage.database_url",
    ),
    (
        "certificate|SSL|TLS",
        "its certificate isn't trusted, or is another host's: see sslmode and sslrootcert in storage.database_url",
    ),
    (
        "starting up|shutting down|recovery|not yet accepting|has not been started",
        "it will be back by itself, if it is to",
    ),
    ("too many clients|remaining connection slots|too many connections|no more connections", "connections"),
    ("is not permitted to log in", "let that user log in: ALTER ROLE … LOGIN"),
    (
        "permission denied for database|CONNECT privilege",
        "grant the user CONNECT on that database: docs/postgresql.md has the statements",
    ),
    (
        "translate host name|resolve host|Name or service|nodename",
        "no server is known by that name: see the host in storage.database_url",
    ),
    (
        "Connection refused|No route|unreachable|No such file|timeout expired|no answer within",
        "does it run where storage.database_url says, and does a firewall let this machine through?",
    ),
    ("server closed the connection|connection .*closed|Connection reset|terminat", "it was stopped, or broke off"),
    ("read-only|session is not read-write", _BY_STATE["25006"]),
    ("statement pooling", "pgbouncer is in statement mode: set its pool_mode to transaction"),
    ("QueuePool limit", "this process asks it for too much at once: try again"),
    ("query_wait_timeout|pgbouncer", "pgbouncer has no connection free, or can't get one: see its log"),
)
_LONG = {
    "password": "it asks for a password, or refuses this one: see storage.database_password_env or "
    "database_password_file, and the user in database_url",
    "connections": "each process of Weighbridge takes a few connections: raise max_connections, or put pgbouncer "
    "before it",
}
_WHERE = r"^(connection (failed|is bad): )?(connection to server .*? failed: )?(FATAL: +)?"
"""What stands before what was said: our own name of the database says the same."""


def explained(error: BaseException, password: str | None = None) -> str:
    """What happened, and what to do about it, without the password."""
    said = _said(error)
    if password:
        said = said.replace(password, "**********")
    return f"{said}; {advice(error)}"


def advice(error: BaseException) -> str:
    """What to do about it."""
    state = getattr(error, "sqlstate", None)
    if state in _BY_STATE:
        return _BY_STATE[state]
    for pattern, what in _BY_TEXT:
        if re.search(pattern, str(error)):
            return _LONG.get(what, what)
    return "see what it says, and its own log"


def _said(error: BaseException) -> str:
    """The first thing that the server said, or libpq, in one line."""
    text = str(error)
    if isinstance(error, psycopg.Error) and error.diag.message_primary:
        text = error.diag.message_primary
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    line = lines[0] if lines else type(error).__name__
    return re.sub(_WHERE, "", line).rstrip(".;")
