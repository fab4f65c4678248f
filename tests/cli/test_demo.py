"""`weighbridge demo`: what it decides before it serves. tests/journeys/test_demo.py runs it as users do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.billing.records import UsageRecord
from proxy.cli import demo
from tests.cli.conftest import Weighbridge


@pytest.mark.parametrize("name", ["GEMINI_API_KEY", "GOOGLE_API_KEY"])
def test_google_is_asked_where_there_is_a_key_for_it(tmp_path: Path, name: str) -> None:
    """Run where there is no network, so that nobody is really asked."""
    alone = ["unshare", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2]), name: "AIza" + "0" * 35}
    run = [*alone, sys.executable, "-m", "proxy", "demo", "--once"]
    done = subprocess.run(run, cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert done.stdout == "Upstream: Google, with your key.\n\n"
    assert done.returncode == 1
    assert done.stderr.startswith("error: UNAVAILABLE: ")
    assert "AIza" not in done.stderr
    assert (tmp_path / "weighbridge-data").stat().st_mode & 0o077 == 0, "it is the data_dir of who goes on from here"


def test_a_place_that_cannot_be_written_is_told_before_anything_is_started(
    weighbridge: Weighbridge, tmp_path: Path
) -> None:
    done = weighbridge("demo", "-o", "missing/picture.jpg")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == (
        "error: missing/picture.jpg can't be written: is its folder there, and may you write in it?\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_bill_has_a_line_for_each_rate_and_the_sum_that_the_ledger_has(capsys: pytest.CaptureFixture[str]) -> None:
    """Worked out by hand: 14 x 1.5 / 1,000,000 and 1,120 x 30 / 1,000,000."""
    record = UsageRecord(
        record_id="r",
        request_id="q",
        started_at=0,
        project="demo",
        key_id="key_1",
        key_name="demo",
        upstream="emulator",
        operation="generateContent",
        model="gemini-nano-banana-2.1",
        model_asked="gemini-nano-banana-2.1",
        period="2026-11-21",
        rates={"input_text": (14, 1_500_000_000), "output_image": (1_120, 30_000_000_000)},
        cost_usd=33_621_000,
    )
    demo.bill(record)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert lines == [
        ["input_text", "14", "$1.5", "$0.000021"],
        ["output_image", "1,120", "$30", "$0.0336"],
        ["gemini-nano-banana-2.1", "$0.033621"],
    ]
    record.rates, record.cost_usd = None, None
    demo.bill(record)
    assert capsys.readouterr().out.splitlines()[1].split() == ["gemini-nano-banana-2.1", "no", "price"]
