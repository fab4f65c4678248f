"""Migrations of weighbridge.db."""
