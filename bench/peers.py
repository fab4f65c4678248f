"""python -m bench.peers: nginx, Weighbridge, LiteLLM and Portkey's gateway in turn: processor time, memory, latency.

What a proxy puts off is waited for, and belongs to its calls. Those that wrk breaks off at its end count as answered,
which is in favour of whoever answers few calls a second; LiteLLM, which does, runs for longer.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
import urllib.error
import urllib.request
from collections.abc import Generator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from bench import measure, peer_stand, stand
from bench.__main__ import commit, machine
from bench.measure import Side
from bench.pages import between_marks, save_as
from bench.payloads import PAYLOADS, Payload, response_file
from proxy.billing import reports

MARK = "peers: by python -m bench.peers"
NAMES = {"nginx": "nginx", "weighbridge": "Weighbridge", "litellm": "LiteLLM", "portkey": "Portkey"}
LONGER = {"litellm": 2}
"""Who runs for so many times the seconds."""
WRONG_KEY = "sk-nobody-was-given-this-one"


class Peer(NamedTuple):
    """One that is measured: as wrk and its folder know it, and how it is asked for what all are asked for."""

    side: Side
    folder: Path
    key: str
    path: str = "{path}"
    """Where it has the native call of that path."""
    headers: tuple[tuple[str, str], ...] = ()

    def prepare(self, payload: Payload) -> None:
        """Writes what `measure.load` reads. Nobody is asked to compress: LiteLLM would, and the others don't."""
        self.folder.mkdir(exist_ok=True)
        measure.prepare(self.folder, payload, self.key)
        lines = [f'wrk.path = "{self.path.format(path=payload.path)}"']
        lines.append('wrk.headers["accept-encoding"] = "identity"')
        lines += [f'wrk.headers["{name}"] = "{value}"' for name, value in self.headers]
        with (self.folder / f"{payload.letter}.lua").open("a") as script:
            script.write("\n".join(lines) + "\n")

    def asked(self, payload: Payload, key: str | None = None) -> tuple[int, bytes]:
        """Status and body of one call."""
        url = f"http://127.0.0.1:{self.side.port}{self.path.format(path=payload.path)}"
        headers = {"content-type": "application/json", "x-goog-api-key": key or self.key} | dict(self.headers)
        request = urllib.request.Request(url, (self.folder / f"{payload.letter}.json").read_bytes(), headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    parser.add_argument("--litellm", type=Path, metavar="FOLDER", help="the virtual environment that it is in")
    parser.add_argument("--portkey", type=Path, metavar="FOLDER", help="the folder whose node_modules it is in")
    parser.add_argument("--only", default="SM", help="which payloads, of S and M")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="how long each runs in a round")
    parser.add_argument("--save", action="store_true", help="write the result into bench/results and the docs")
    options = parser.parse_args()
    if options.save and not (options.litellm and options.portkey and options.only == "SM"):
        parser.error("--save takes a whole run, with --litellm and --portkey, without --only")
    content = bench([payload for payload in PAYLOADS if payload.letter in options.only], options)
    print(table(content))
    if options.save:
        save_as("peers", content, filled)


def bench(payloads: list[Payload], options: argparse.Namespace) -> dict[str, Any]:
    content: dict[str, Any] = {
        "at": f"{datetime.now(UTC):%Y-%m-%dT%H:%MZ}",
        "commit": commit(),
        "machine": machine(),
        "rounds": options.rounds,
        "seconds": options.seconds,
    }
    if options.litellm:
        content["machine"]["LiteLLM"] = peer_stand.litellm_version(options.litellm)
    if options.portkey:
        content["machine"] |= peer_stand.portkey_versions(options.portkey)
    with tempfile.TemporaryDirectory(prefix="weighbridge-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        files = [response_file(payload, folder) for payload in payloads]
        with stand.upstream(folder, files) as upstream, contextlib.ExitStack() as stack:
            direct = Peer(Side("direct", 0, upstream), folder / "asks-directly", "")
            peers = [stack.enter_context(each) for each in _started(folder, upstream, options)]
            for payload in payloads:
                for peer in (direct, *peers):
                    peer.prepare(payload)
            content["relays"] = {peer.side.name: relays(peer, direct, payloads) for peer in peers}
            if options.litellm:
                content["litellm_counts"] = litellm_counts(folder, options.litellm, upstream, peers, payloads[0])
            content["payloads"] = {p.letter: compare(p, peers, options) for p in payloads}
            content["latency_us"] = latencies(payloads[0], [direct, *peers], options.rounds)
            database = next((folder / "weighbridge" / "data").rglob("0.db"))
            content["weighbridge_records"] = sum(row.calls for row in reports.report([database], []))
    return content


def _started(
    folder: Path, upstream: int, options: argparse.Namespace
) -> Generator[contextlib.AbstractContextManager[Peer]]:
    @contextlib.contextmanager
    def nginx() -> Generator[Peer]:
        with stand.nginx(folder / "nginx", upstream) as started:
            yield Peer(Side("nginx", *started), folder / "asks-nginx", peer_stand.UPSTREAM_KEY)

    @contextlib.contextmanager
    def weighbridge() -> Generator[Peer]:
        with stand.weighbridge(folder / "weighbridge", upstream) as (pid, port, key):
            yield Peer(Side("weighbridge", pid, port), folder / "asks-weighbridge", key)

    @contextlib.contextmanager
    def litellm() -> Generator[Peer]:
        with peer_stand.litellm(folder / "litellm", options.litellm, upstream) as started:
            yield Peer(Side("litellm", *started), folder / "asks-litellm", peer_stand.LITELLM_KEY, "/gemini{path}")

    @contextlib.contextmanager
    def portkey() -> Generator[Peer]:
        headers = (("x-portkey-provider", "google"), ("x-portkey-custom-host", f"http://127.0.0.1:{upstream}"))
        with peer_stand.portkey(folder / "portkey", options.portkey) as started:
            side = Side("portkey", *started)
            yield Peer(side, folder / "asks-portkey", peer_stand.UPSTREAM_KEY, "/v1/proxy{path}", headers)

    yield nginx()
    yield weighbridge()
    if options.litellm:
        yield litellm()
    if options.portkey:
        yield portkey()


def relays(peer: Peer, direct: Peer, payloads: Sequence[Payload]) -> dict[str, Any]:
    """Ends the bench if the answer's bytes aren't the upstream's. Says what a key that nobody has gets."""
    for payload in payloads:
        assert peer.asked(payload) == direct.asked(payload), f"{peer.side.name} changes the answer to {payload.letter}"
    return {"status_of_a_wrong_key": peer.asked(payloads[0], WRONG_KEY)[0]}


def litellm_counts(folder: Path, home: Path, upstream: int, peers: Sequence[Peer], payload: Payload) -> dict[str, Any]:
    """What LiteLLM, configured as the one that is measured, tells a callback of one call."""
    measured = next(peer for peer in peers if peer.side.name == "litellm")
    with peer_stand.litellm(folder / "counting", home, upstream, counting=True) as started:
        measured._replace(side=Side("litellm", *started)).asked(payload)
        return peer_stand.counted(folder / "counting")


def compare(payload: Payload, peers: Sequence[Peer], options: argparse.Namespace) -> dict[str, Any]:
    """Processor time of each per call in µs, round by round, and its memory in MiB when all rounds are over."""
    for peer in peers:
        _processor_time(payload, peer, options.seconds)
    rounds = [[_processor_time(payload, peer, options.seconds) for peer in peers] for _ in range(options.rounds)]
    return {
        "us": {peer.side.name: [times[at][0] for times in rounds] for at, peer in enumerate(peers)},
        "put_off_us": {peer.side.name: [times[at][1] for times in rounds] for at, peer in enumerate(peers)},
        "mib": {peer.side.name: peer_stand.memory_mib(peer.side.pid) for peer in peers},
    }


def _processor_time(payload: Payload, peer: Peer, seconds: int) -> tuple[float, float]:
    """All of it per call in µs, and what of it came when wrk had ended."""
    began = stand.processor_seconds(peer.side.pid)
    seconds *= LONGER.get(peer.side.name, 1)
    calls = measure.load(peer.folder, payload, peer.side.port, seconds).calls + payload.connections
    answered = stand.processor_seconds(peer.side.pid)
    peer_stand.is_idle(peer.side.pid)
    idle = stand.processor_seconds(peer.side.pid)
    us, put_off = (idle - began) / calls * 1e6, (idle - answered) / calls * 1e6
    print(f"{payload.letter} {peer.side.name:11} {us:9.1f} us, {put_off:.1f} of it put off, {calls} calls", flush=True)
    return round(us, 1), round(put_off, 1)


def latencies(payload: Payload, peers: Sequence[Peer], rounds: int) -> dict[str, list[int]]:
    """Median of one call at a time in µs, round by round."""
    runs: dict[str, list[int]] = {peer.side.name: [] for peer in peers}
    for _ in range(rounds):
        for peer in peers:
            runs[peer.side.name].append(measure.load(peer.folder, payload, peer.side.port, 2, connections=1).p50_us)
    return runs


def table(content: dict[str, Any]) -> str:
    """The figures as docs/performance.md has them."""
    return "\n".join(("", "", *_rows(content), "", _said(content), "", ""))


def _rows(content: dict[str, Any]) -> Generator[str]:
    names = list(content["relays"])
    yield f"| | {' | '.join(NAMES[name] for name in names)} |"
    yield f"|---|{'---|' * len(names)}"
    for letter, found in content["payloads"].items():
        what = next(payload.what for payload in PAYLOADS if payload.letter == letter)
        times = found["us"]
        cells = [f"{statistics.median(times[name]):,.0f}" for name in names]
        yield f"| {letter}: {what}: processor time per call, µs | {' | '.join(cells)} |"
        ours = times["weighbridge"]
        cells = [_spread(times[name], ours) if name != "weighbridge" else "**1**" for name in names]
        yield f"| {letter}: beside Weighbridge in the same round | {' | '.join(cells)} |"
    for letter, found in content["payloads"].items():
        cells = [f"{found['mib'][name]['pss']:,.0f} ({found['mib'][name]['rss']:,.0f})" for name in names]
        yield f"| memory after {letter}, PSS (RSS), MiB | {' | '.join(cells)} |"
    runs = content["latency_us"]
    added = {n: [its - bare for its, bare in zip(runs[n], runs["direct"], strict=True)] for n in names}
    cells = [
        f"{statistics.median(us) / 1000:.2f} ({min(us) / 1000:.2f} to {max(us) / 1000:.2f})" for us in added.values()
    ]
    yield f"| S, one call at a time: added to the median, ms | {' | '.join(cells)} |"
    answers = [str(content["relays"][name]["status_of_a_wrong_key"]) for name in names]
    yield f"| what a key that nobody was given gets | {' | '.join(answers)} |"


def _spread(theirs: Sequence[float], ours: Sequence[float]) -> str:
    ratios = [its / mine for its, mine in zip(theirs, ours, strict=True)]
    return f"**{statistics.median(ratios):.2g}** ({min(ratios):.2g} to {max(ratios):.2g})"


def _said(content: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {value}" for name, value in content["machine"].items() if name != "on")
    return (
        f"{content['at'][:10]}, commit {content['commit']}, {content['rounds']} rounds, {content['seconds']} s each: "
        f"{versions}, on {content['machine']['on']}."
    )


def filled(text: str, content: dict[str, Any]) -> str:
    """docs/performance.md with this result between its marks."""
    return between_marks(text, MARK, table(content))


if __name__ == "__main__":
    main()
