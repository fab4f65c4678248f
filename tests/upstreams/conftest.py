"""Fixtures of the upstreams' tests."""

from __future__ import annotations

import pytest

from tests.upstreams.origin import Security, make_security


@pytest.fixture(scope="session")
def tls_security(tmp_path_factory: pytest.TempPathFactory) -> Security:
    """Contexts around a certificate for localhost."""
    return make_security(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(params=["plain", "tls"])
def security(request: pytest.FixtureRequest) -> Security | None:
    """Both ways in which an upstream is spoken to."""
    return None if request.param == "plain" else request.getfixturevalue("tls_security")
