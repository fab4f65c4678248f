"""The oldest and the newest PostgreSQL that Weighbridge works with, from npm: for `make test-postgres`."""
