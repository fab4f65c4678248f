"""python -m tests.postgres_versions: every test that needs PostgreSQL, on each version that package.json names."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

from tests.proof import Proof

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def main() -> int:
    """0 where all passed on all versions; what they counted is kept then."""
    install()
    proof, failed = Proof("postgres_versions"), False
    for package in sorted(json.loads((HERE / "package.json").read_text())["dependencies"]):
        with tempfile.TemporaryDirectory(prefix=f"weighbridge-{package}-") as folder:
            programs = laid_out(HERE / "node_modules" / package / "native", Path(folder))
            version = subprocess.check_output([programs / "postgres", "--version"], text=True).split()[-1]
            print(f"PostgreSQL {version}", flush=True)
            counts = run(programs, Path(folder) / "counts.xml")
        proof(**{f"PostgreSQL {version}": counts})
        failed |= bool(counts["failed"] or not counts["passed"])
    if not failed:
        proof.keep()
    return int(failed)


def install() -> None:
    """npm is the one beside this Python, or the system's."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    npm = shutil.which("npm", path=path)
    assert npm is not None, "npm isn't installed"
    command = [npm, "ci", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"]
    subprocess.run(command, cwd=HERE, env={**os.environ, "PATH": path}, check=True)


def laid_out(package: Path, folder: Path) -> Path:
    """Copies the programs to where the servers' user can get to, with the links that a package can't hold."""
    folder.chmod(0o755)
    shutil.copytree(package, folder / "native")
    for link in json.loads((package / "pg-symlinks.json").read_text()):
        target, source = folder / link["target"], folder / link["source"]
        target.unlink(missing_ok=True)
        target.symlink_to(os.path.relpath(source, target.parent))
    programs = folder / "native" / "bin"
    for program in programs.iterdir():
        program.chmod(0o755)
    return programs


def run(programs: Path, counts: Path) -> dict[str, int]:
    """Runs the tests; how many passed, and how many didn't."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "postgres", f"--junitxml={counts}", *sys.argv[1:]]
    environment = {**os.environ, "WEIGHBRIDGE_POSTGRES_BIN": str(programs), "WEIGHBRIDGE_TESTS_REQUIRE": "all"}
    subprocess.run(command, cwd=ROOT, env=environment | {"WEIGHBRIDGE_PROOFS": ""}, check=False)
    if not counts.exists():
        return {"passed": 0, "failed": 0}
    suites = list(ET.parse(counts).getroot().iter("testsuite"))
    failed = sum(int(suite.attrib["failures"]) + int(suite.attrib["errors"]) for suite in suites)
    return {"passed": sum(int(suite.attrib["tests"]) for suite in suites) - failed, "failed": failed}


if __name__ == "__main__":
    sys.exit(main())
