"""The bench's own pieces, and that the pages say what its newest result says."""

from __future__ import annotations

import os
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import ledger, long_ledger, measure, pages, payloads, peer_stand, peers, plots
from proxy.billing import reports
from proxy.billing.verify import Verifier

TWICE = {"ratio": {"nginx": {"median": 2.0, "min": 1.5, "max": 3.0}}}
EVEN = {"ratio": {"nginx": {"median": 1.0, "min": 0.5, "max": 3.0}}}
STRACE = """% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 60.00    0.100000         476      6865       737 futex
 30.00    0.050000          36     15230           writev
 10.00    0.010000          18        20           brk
------ ----------- ----------- --------- --------- ----------------
100.00    0.160000          18     22115       737 total
"""


@pytest.mark.parametrize("page", pages.PAGES)
def test_a_page_says_what_the_newest_result_says(page: str) -> None:
    """Whoever changes a figure by hand, or measures without --save, is told."""
    text = (pages.ROOT / page).read_text("utf-8")
    filled = pages.filled(page, text, pages.newest())
    assert text == filled
    assert all(f"<!-- {part}: by make bench -->" in text for part in pages.PAGES[page])


def test_the_page_says_what_the_newest_result_of_the_long_ledger_says() -> None:
    text = (pages.ROOT / "docs" / "performance.md").read_text("utf-8")
    assert ledger.filled(text, pages.newest("ledger-")) == text
    assert ledger.table(pages.newest("ledger-")) in text


def test_the_page_says_what_the_newest_result_beside_others_says() -> None:
    text = (pages.ROOT / "docs" / "performance.md").read_text("utf-8")
    assert peers.filled(text, pages.newest("peers-")) == text
    assert peers.table(pages.newest("peers-")) in text


def test_a_ratio_beside_others_is_that_of_a_round() -> None:
    """On a machine with other work, the medians of two that ran in different rounds say nothing of each other."""
    content = pages.newest("peers-")
    content["payloads"]["S"]["us"] = {
        "nginx": [10.0, 10.0, 10.0],
        "weighbridge": [100.0, 200.0, 900.0],
        "litellm": [1_000.0, 3_000.0, 1_800.0],
        "portkey": [100.0, 200.0, 900.0],
    }
    assert "| **1** | **10** (2 to 15) | **1** (1 to 1) |" in peers.table(content)


def test_each_is_asked_where_it_has_the_native_call(tmp_path: Path) -> None:
    payload = payloads.PAYLOADS[0]
    side = measure.Side("other", 0, 0)
    peers.Peer(side, tmp_path / "other", "its-key", "/gemini{path}", (("x-provider", "google"),)).prepare(payload)
    script = (tmp_path / "other" / "S.lua").read_text()
    assert f'wrk.path = "/gemini{payload.path}"' in script
    assert 'wrk.headers["x-provider"] = "google"' in script
    assert 'wrk.headers["x-goog-api-key"] = "its-key"' in script


def test_memory_is_that_of_a_process_that_runs() -> None:
    mib = peer_stand.memory_mib(os.getpid())
    assert 5 < mib["pss"] <= mib["rss"]


def test_the_long_ledger_is_one_that_is_well(tmp_path: Path) -> None:
    path = long_ledger.make(tmp_path, 3_000)
    verifier = Verifier(path)
    assert list(verifier) == []
    assert verifier.summary.records == 3_000
    [row] = reports.report([path], [])
    assert (row.calls, row.estimated_calls, row.unpriced_calls) == (3_000, 0, 0)


def test_the_plots_are_those_of_the_newest_result() -> None:
    newest = pages.newest()
    assert (pages.RESULTS / "ratios.svg").read_text() == plots.ratios(newest["payloads"])
    assert (pages.RESULTS / "latency.svg").read_text() == plots.latency(pages.medians(newest["latency_us"]))


def test_a_ratio_stands_at_its_place_on_the_axis() -> None:
    """Twice nginx's time is as far from 1 as 1 is from half of it, and a spread reaches from smallest to largest."""
    drawn = ElementTree.fromstring(plots.ratios({"M": TWICE, "L": EVEN}))
    twice, same = (float(dot.attrib["cx"]) for dot in drawn.iter() if dot.attrib.get("class") == "ours")
    spread = [line.attrib for line in drawn.iter() if line.attrib.get("class") == "spread"]
    even = next(line for line in drawn.iter() if line.attrib.get("class") == "even")
    assert same == float(even.attrib["x1"])
    assert same - float(spread[1]["x1"]) == pytest.approx(twice - same, abs=0.2)
    assert float(spread[0]["x1"]) < twice < float(spread[0]["x2"])


def test_plots_load_nothing() -> None:
    """No script, and no address but the name of SVG itself: a browser that shows them asks nobody."""
    drawn = plots.ratios({"S": TWICE}) + plots.latency({"direct": (20, 30), "nginx": (100, 200)})
    assert "script" not in drawn
    assert "href" not in drawn
    assert "url(" not in drawn


def test_system_calls_are_counted_by_kind() -> None:
    counted = measure.by_kind(STRACE, 10)
    assert (counted["futex"], counted["writes"], counted["others"], counted["reads"]) == (686.5, 1523, 2, 0)


@pytest.mark.parametrize("payload", payloads.PAYLOADS, ids=[payload.letter for payload in payloads.PAYLOADS])
def test_requests_have_the_size_that_the_page_tells(payload: payloads.Payload) -> None:
    assert len(payloads.request_body(payload)) == payload.request_bytes
