"""Room on the disk, and who may read what nobody else should."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.cli.doctor.files import check_disk, check_modes, room
from proxy.cli.doctor.findings import Verdict
from proxy.config.schema import Settings
from proxy.config.upstreams import Upstream
from tests.cli.doctor.folders import untouched

MIB = 1 << 20


@pytest.mark.parametrize(
    ("free", "ballast", "verdict"),
    [
        (10_000 * MIB, False, Verdict.OK),
        (511 * MIB, False, Verdict.WARNING),
        (80 * MIB, False, Verdict.WARNING),
        (79 * MIB, False, Verdict.PROBLEM),
        (79 * MIB, True, Verdict.WARNING),
        (0, True, Verdict.WARNING),
    ],
)
def test_too_little_room_is_told_before_calls_are_refused(free: int, ballast: bool, verdict: Verdict) -> None:
    assert room(Path("/data"), free, ballast=ballast).verdict is verdict


def test_the_disk_of_a_folder_that_is_not_there_yet_is_that_of_the_one_above(tmp_path: Path) -> None:
    with untouched(tmp_path):
        found = list(check_disk(tmp_path / "not" / "there" / "yet"))
    assert [finding.verdict for finding in found] == [Verdict.OK]
    assert found[0].what.startswith(f"{tmp_path}: ")


def made(folder: Path) -> Settings:
    """Everything that has a mode, as it should be."""
    data = folder / "data"
    (data / "ledger").mkdir(mode=0o700, parents=True)
    data.chmod(0o700)
    for path in (
        data / "weighbridge.db",
        data / "ledger" / "0.db",
        data / "admin-token",
        folder / "key",
        folder / "tls",
    ):
        path.write_text("")
        path.chmod(0o600)
    upstream = Upstream.model_validate({"name": "google", "api_key": "k", "api_key_file": folder / "key"})
    sections = {"server": {"tls_key": folder / "tls", "tls_cert": folder / "tls"}, "storage": {"data_dir": data}}
    return Settings.model_validate(sections | {"upstreams": [upstream]})


def test_files_for_their_owner_alone_are_fine(tmp_path: Path) -> None:
    settings = made(tmp_path)
    (tmp_path / "key").chmod(0o640)  # to a group, as Kubernetes gives a Secret
    assert [finding.verdict for finding in check_modes(settings, None)] == [Verdict.OK]


@pytest.mark.parametrize("path", ["key", "tls", "data", "data/admin-token", "data/weighbridge.db", "data/ledger/0.db"])
def test_what_everybody_can_read_or_change_is_told_with_the_command_that_mends_it(tmp_path: Path, path: str) -> None:
    settings, exposed = made(tmp_path), tmp_path / path
    right = exposed.stat().st_mode & 0o777
    exposed.chmod(right | 0o044)
    (found,) = check_modes(settings, None)
    assert (found.verdict, found.do) == (Verdict.WARNING, f"chmod {right:o} {exposed}")
    exposed.chmod(right | 0o022)
    (found,) = check_modes(settings, None)
    assert found.verdict is Verdict.PROBLEM


def test_a_configuration_may_be_read_by_all_and_changed_by_its_owner_alone(tmp_path: Path) -> None:
    settings, file = made(tmp_path), tmp_path / "weighbridge.toml"
    file.touch(0o644)
    assert [finding.verdict for finding in check_modes(settings, file)] == [Verdict.OK]
    file.chmod(0o666)
    (found,) = check_modes(settings, file)
    assert (found.verdict, found.do) == (Verdict.PROBLEM, f"chmod 644 {file}")
