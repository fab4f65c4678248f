"""The metrics as they are declared: their names, their buckets, and how those of several processes are made one."""

from __future__ import annotations

import itertools
import re

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from proxy.telemetry.declared import COMMIT_SECONDS, OVERHEAD_SECONDS, SECONDS, Declared
from proxy.telemetry.multiprocess import MADE_ONE


def declared() -> list[MetricWrapperBase]:
    found = [one for one in vars(Declared()).values() if isinstance(one, MetricWrapperBase)]
    assert len(found) > 20
    return found


def test_a_name_says_what_is_counted_and_in_which_base_unit() -> None:
    """https://prometheus.io/docs/practices/naming: seconds and bytes, never milliseconds; ratios are of 1."""
    for one in declared():
        unit = re.fullmatch(r".*\. Unit: (.+?)\. Worry .*", one._documentation)
        assert unit is not None
        assert one._name.startswith("weighbridge_")
        said = {"seconds": "_seconds", "bytes": "_bytes", "of 1": "_ratio"}.get(unit[1], "")
        assert one._name.endswith(said)
        assert not re.search("milli|_ms|minutes|percent|_mb", one._name)
        if isinstance(one, Histogram):
            assert unit[1] == "seconds"


def test_buckets_tell_pictures_apart() -> None:
    """From ten seconds to five minutes no bucket is twice as long as the one before: else a quantile is a guess."""
    assert (SECONDS[0], SECONDS[-1]) == (0.005, 300)
    long = [bound for bound in SECONDS if bound >= 10]
    assert all(after <= 2 * before for before, after in itertools.pairwise(long))
    for bounds in (SECONDS, OVERHEAD_SECONDS, COMMIT_SECONDS):
        assert list(bounds) == sorted(set(bounds))


def test_only_what_workers_alone_know_is_made_one_of_all_processes() -> None:
    """Every other gauge is the control process's, or there would be one a process."""
    modes = {one._name: one._multiprocess_mode for one in declared() if isinstance(one, Gauge)}
    assert {name for name, mode in modes.items() if mode in MADE_ONE} == {
        "weighbridge_in_flight_requests",
        "weighbridge_upstream_available",
        "weighbridge_upstream_models_out",
    }
    assert {mode for mode in modes.values() if mode not in MADE_ONE} == {"all"}
    assert any(isinstance(one, Counter) for one in declared())
