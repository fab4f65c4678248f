"""Run by alembic: applies migrations on the connection, and in the transaction, that it is handed."""

from __future__ import annotations

from alembic import context

from proxy.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite alters a table by making it anew
)
context.run_migrations()
