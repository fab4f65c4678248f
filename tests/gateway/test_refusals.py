"""A refusal is counted under its project and reason, and logged with what an operator needs to find it."""

from __future__ import annotations

import io
import json

from prometheus_client.parser import text_string_to_metric_families

from proxy.errors import CallerErred, Reason
from proxy.gateway.refusals import tell_refusal
from proxy.telemetry import logs
from proxy.telemetry.metrics import Metrics


def test_a_refusal_leaves_a_metric_and_a_log_line_without_the_callers_key() -> None:
    metrics, said = Metrics("1", ["m"]), io.StringIO()
    logs.configure(said)
    key = "wb_0123456789abcdefghijABCDEFGHIJ01abcdef"
    tell_refusal(metrics, CallerErred(Reason.BAD_REQUEST, f"what is {key}?"), "id-1", "alice", "generateContent", "m")
    line = json.loads(said.getvalue())
    assert (line["event"], line["reason"], line["request_id"]) == ("refused", "BAD_REQUEST", "id-1")
    assert (line["project"], line["operation"], line["model"]) == ("alice", "generateContent", "m")
    assert key not in said.getvalue()
    families = text_string_to_metric_families(metrics.exposition().decode())
    counted = [
        sample for family in families for sample in family.samples if sample.name == "weighbridge_refusals_total"
    ]
    assert [(sample.labels, sample.value) for sample in counted] == [({"project": "alice", "reason": "BAD_REQUEST"}, 1)]
