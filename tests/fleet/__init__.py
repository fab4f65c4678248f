"""A whole fleet for tests: nodes with their workers, haproxy before them, Redis and PostgreSQL behind, and the load."""
