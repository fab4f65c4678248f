"""Processor time per call, beside nginx as a plain reverse proxy in the same run."""
