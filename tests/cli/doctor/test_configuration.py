"""The configuration's problems, and certificates that nobody would miss until calls fail."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from proxy.cli.doctor.configuration import check_authorities, check_certificate, check_configuration
from proxy.cli.doctor.findings import Verdict
from proxy.config.load import ConfigError, read
from tests.certificates import make_certificate


def test_each_problem_of_the_configuration_is_one_finding(tmp_path: Path) -> None:
    (tmp_path / "w.toml").write_text("")
    loaded = read(tmp_path / "w.toml", {"GEMINI_API_KEY": "k"})
    (fine,) = check_configuration(loaded, None)
    assert (fine.verdict, "w.toml" in fine.what) == (Verdict.OK, True)
    found = list(check_configuration(loaded, ConfigError(["one", "another"])))
    assert [(finding.verdict, finding.what) for finding in found] == [
        (Verdict.PROBLEM, "one"),
        (Verdict.PROBLEM, "another"),
    ]


def test_a_file_of_authorities_that_leads_nowhere_is_a_problem(tmp_path: Path) -> None:
    assert list(check_authorities({})) == []
    good = make_certificate(tmp_path).path
    assert [finding.verdict for finding in check_authorities({"SSL_CERT_FILE": str(good)})] == [Verdict.OK]
    (found,) = check_authorities({"SSL_CERT_FILE": "gone.pem"})
    assert (found.verdict, found.what.startswith("SSL_CERT_FILE: gone.pem")) == (Verdict.PROBLEM, True)
    assert "unset the variable" in found.do


@pytest.mark.parametrize(
    ("days", "verdict", "told"),
    [
        (60.5, Verdict.OK, "60 more days"),
        (5.5, Verdict.WARNING, "in 5 days"),
        (-2.5, Verdict.PROBLEM, "expired 2 days"),
    ],
)
def test_a_certificate_is_told_before_it_expires(tmp_path: Path, days: float, verdict: Verdict, told: str) -> None:
    path = make_certificate(tmp_path, valid_from=-10, valid_until=days).path
    (found,) = check_certificate(path, time.time())
    assert (found.verdict, told in found.what) == (verdict, True), found


def test_what_is_no_certificate_is_told(tmp_path: Path) -> None:
    (tmp_path / "junk.pem").write_text("junk")
    for path in (tmp_path / "junk.pem", tmp_path / "gone.pem"):
        (found,) = check_certificate(path, 0)
        assert (found.verdict, str(path) in found.what) == (Verdict.PROBLEM, True)
