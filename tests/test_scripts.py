"""What make does outside Python: its help, and the command that it puts into the environment."""

from __future__ import annotations

import re
import subprocess
import sysconfig
import venv
from pathlib import Path

from proxy import __version__

ROOT = Path(__file__).parent.parent


def test_make_help_names_targets_and_says_nothing_else() -> None:
    said = subprocess.run(["make", "-s", "-C", ROOT, "help"], check=True, capture_output=True, text=True).stdout
    named = [re.match(r"make ([a-z-]+) +\S", line) for line in said.splitlines()]
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert named
    assert all(found and re.search(rf"^{found[1]}:", makefile, re.MULTILINE) for found in named), said


def test_the_command_starts_from_any_folder_also_where_the_checkouts_name_has_a_space(tmp_path: Path) -> None:
    """By a link as well; and what is called proxy in the current folder isn't taken for ours."""
    environment = tmp_path / "check out" / ".venv"
    venv.create(environment, symlinks=True)
    python = environment / "bin" / "python"
    site = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    (Path(site) / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    subprocess.run([ROOT / "scripts" / "install", environment], check=True)
    other = tmp_path / "elsewhere" / "proxy"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("raise SystemExit('another proxy')")
    link = tmp_path / "weighbridge"
    link.symlink_to(environment / "bin" / "weighbridge")
    for command in (environment / "bin" / "weighbridge", link):
        said = subprocess.run([command, "--version"], cwd=other.parent, capture_output=True, text=True)
        assert (said.returncode, said.stdout) == (0, f"weighbridge {__version__}\n"), said.stderr
