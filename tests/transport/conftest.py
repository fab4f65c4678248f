"""The upstreams' fixtures: both ways in which one is spoken to."""

from tests.upstreams.conftest import security, tls_security

__all__ = ["security", "tls_security"]
