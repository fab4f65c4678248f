"""Limits: reserved before a call, settled after it; in memory, or in Redis for all that share it."""
