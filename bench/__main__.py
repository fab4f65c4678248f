"""make bench: nginx and Weighbridge in interleaved pairs, processor time per call, medians and spread."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import stand
from bench.payloads import PAYLOADS, Payload, request_body, response_file
from proxy import __version__

LUA = """
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
wrk.headers["x-goog-api-key"] = "{key}"
wrk.headers["user-agent"] = "google-genai-sdk/3.4.0 gl-python/3.11.7"
wrk.headers["x-goog-api-client"] = "google-genai-sdk/3.4.0 gl-python/3.11.7"
wrk.headers["accept"] = "*/*"
wrk.headers["accept-encoding"] = "gzip, deflate"
local file = io.open("{body}", "rb")
wrk.body = file:read("*a")
"""
RESULTS = Path(__file__).with_name("results")


def load(port: int, payload: Payload, script: Path, seconds: int) -> int:
    """Keeps the payload's connections busy; returns the calls completed. Ends the bench if any failed."""
    url = f"http://127.0.0.1:{port}/v1beta/models/{payload.model}:generateContent"
    wrk = [stand.need("wrk"), "-t1", f"-c{payload.connections}", f"-d{seconds}s", "--timeout", "30s", "-s", str(script)]
    said = subprocess.run(
        [*stand.pinned(stand.LOAD_CORE), *wrk, url], check=True, capture_output=True, text=True
    ).stdout
    if "Non-2xx" in said or re.search(r"Socket errors: .*(read|write|connect) [1-9]", said):
        sys.exit(f"calls failed:\n{said}")
    found = re.search(r"(\d+) requests in", said)
    assert found is not None, said
    return int(found[1])


def measure(pid: int, port: int, payload: Payload, script: Path, seconds: int) -> float:
    """Processor seconds per call."""
    before = stand.processor_seconds(pid)
    calls = load(port, payload, script, seconds)
    return (stand.processor_seconds(pid) - before) / calls


def versions() -> dict[str, str]:
    nginx = subprocess.run([stand.need("nginx"), "-v"], check=True, capture_output=True, text=True).stderr.strip()
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return {
        "weighbridge": __version__,
        "python": platform.python_version(),
        "nginx": nginx.rpartition("/")[2],
        "kernel": platform.release(),
        "processor": f"{cpu[1] if cpu else platform.machine()}, {os.cpu_count()} cores",
    }


def bench(letters: str, pairs: int, seconds: int, buffer: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="weighbridge-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        files = [response_file(payload, folder) for payload in PAYLOADS]
        with (
            stand.upstream(folder, files) as upstream,
            stand.nginx(folder, upstream, buffer) as (nginx_pid, nginx_port),
            stand.weighbridge(folder, upstream) as (pid, port, key),
        ):
            results = {}
            for payload in (p for p in PAYLOADS if p.letter in letters):
                body, script = folder / f"{payload.letter}.json", folder / f"{payload.letter}.lua"
                body.write_bytes(request_body(payload))
                script.write_text(LUA.format(key=key, body=body))
                url = f"http://127.0.0.1:%d/v1beta/models/{payload.model}:generateContent"
                same = stand.fetch(url % port, body.read_bytes(), key) == stand.fetch(
                    url % nginx_port, body.read_bytes(), key
                )
                assert same, "the proxies' answers differ"
                for a_pid, a_port in ((pid, port), (nginx_pid, nginx_port)):
                    measure(a_pid, a_port, payload, script, 2)
                runs = [
                    (
                        measure(nginx_pid, nginx_port, payload, script, seconds),
                        measure(pid, port, payload, script, seconds),
                    )
                    for _ in range(pairs)
                ]
                results[payload.letter] = summary(payload, runs)
                print_row(payload, results[payload.letter])
            return results


def summary(payload: Payload, runs: list[tuple[float, float]]) -> dict[str, Any]:
    ratios = [ours / theirs for theirs, ours in runs]
    return {
        "connections": payload.connections,
        "response_bytes": payload.response_bytes,
        "nginx_us_per_call": [round(theirs * 1e6, 1) for theirs, _ in runs],
        "weighbridge_us_per_call": [round(ours * 1e6, 1) for _, ours in runs],
        "ratio": round(statistics.median(ratios), 2),
        "ratio_min": round(min(ratios), 2),
        "ratio_max": round(max(ratios), 2),
    }


def print_row(payload: Payload, result: dict[str, Any]) -> None:
    ours = statistics.median(result["weighbridge_us_per_call"])
    theirs = statistics.median(result["nginx_us_per_call"])
    print(
        f"{payload.letter}  {ours:9.1f} us/call   nginx {theirs:8.1f}   ratio {result['ratio']:5.2f}"
        f"  ({result['ratio_min']:.2f} to {result['ratio_max']:.2f})",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench ARGS=", description=__doc__)
    parser.add_argument("--only", default="SML", help="which payloads, such as S or SM")
    parser.add_argument("--pairs", type=int, default=5, help="how many interleaved pairs")
    parser.add_argument("--seconds", type=int, default=6, help="how long each side of a pair runs")
    parser.add_argument("--nginx-buffer", default="", metavar="SIZE", help="nginx's proxy buffers, such as 64k")
    parser.add_argument("--save", action="store_true", help="write bench/results/DATE….json")
    options = parser.parse_args()
    if unknown := set(options.only) - {payload.letter for payload in PAYLOADS}:
        parser.error(f"--only takes letters of {''.join(p.letter for p in PAYLOADS)}, not {''.join(sorted(unknown))}")
    results = bench(options.only, options.pairs, options.seconds, options.nginx_buffer)
    if options.save:
        now = datetime.now(UTC)
        RESULTS.mkdir(exist_ok=True)
        kind = f"-nginx-{options.nginx_buffer}" if options.nginx_buffer else ""
        file = RESULTS / f"{now:%Y-%m-%d}{kind}.json"
        content = {"at": f"{now:%Y-%m-%dT%H:%MZ}", "versions": versions(), "pairs": options.pairs, "payloads": results}
        file.write_text(json.dumps(content, indent=2) + "\n")
        print(f"written: {os.path.relpath(file)}")


if __name__ == "__main__":
    main()
