"""Migrations of the database, one sentence each, which `weighbridge db upgrade` prints.

All of an upgrade is one transaction, and in PostgreSQL older programs go on meanwhile and after it. So a migration
adds: a table, a column that may be null or has a constant default, an index on a table that is small. It rewrites no
table, and reads no large one: an index on `usage_records` is made partition by partition, CONCURRENTLY, and not here.
One that takes something away, or changes what something means, moves OLDEST_PROGRAM in proxy/store/tables.py, and comes
a version after the programs that can do without.
"""
