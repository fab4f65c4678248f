"""As many connections are promised as there are files for."""

from __future__ import annotations

import resource

from proxy.resources import connections_possible


def test_connections_are_no_more_than_two_files_for_each_allow() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (300, hard))
    try:
        assert [connections_possible(wanted) for wanted in (10_000, 100, 7)] == [100, 100, 7]
        resource.setrlimit(resource.RLIMIT_NOFILE, (90, hard))
        assert connections_possible(10_000) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
