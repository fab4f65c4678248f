"""What is looked at of the upstreams together: which are disabled, what nobody serves, and keys listed twice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from proxy.cli.doctor import stores
from proxy.cli.doctor.findings import Finding, ok, problem, warning
from proxy.config.schema import Storage
from proxy.config.upstreams import Upstream

ALL = ("*",)


def check_pool(upstreams: Sequence[Upstream], storage: Storage) -> Iterator[Finding]:
    """Of all upstreams of a configuration, and of those that commands have disabled."""
    off = stores.disabled_upstreams(storage)
    names = [one.name for one in upstreams]
    enabled = [one for one in upstreams if one.name not in off]
    if not enabled:
        how = f"`weighbridge upstreams enable {names[0]}`"
        yield problem("every upstream is disabled, so every call is refused (NO_UPSTREAM)", how)
        return
    disabled = [name for name in names if name in off]
    for name in disabled:
        yield warning(f"{name} is disabled: it gets no calls", f"`weighbridge upstreams enable {name}` is the way back")
    yield ok(f"{len(enabled)} of {len(names)} are enabled") if disabled else ok(_all_enabled(names))
    for what in ("models", "projects"):
        if not any(getattr(one, what) == ALL for one in enabled):
            served = ", ".join(dict.fromkeys(glob for one in enabled for glob in getattr(one, what)))
            yield warning(
                f"no upstream serves all {what}: together they serve {served}",
                f'calls of others are refused (NO_UPSTREAM); {what} = ["*"] of one of them serves the rest',
            )
    if not any(one.models == ALL == one.projects for one in enabled) and _each_is_all(enabled):
        yield warning(
            "no upstream serves all models for all projects",
            "calls that none of them serves are refused (NO_UPSTREAM): see models and projects of each",
        )
    yield from _same_keys(upstreams)


def _all_enabled(names: Sequence[str]) -> str:
    return f"{names[0]} is enabled" if len(names) == 1 else f"all {len(names)} are enabled"


def _each_is_all(upstreams: Sequence[Upstream]) -> bool:
    """Whether models and projects each have an upstream that serves all of them, though no one has both."""
    return any(one.models == ALL for one in upstreams) and any(one.projects == ALL for one in upstreams)


def _same_keys(upstreams: Iterable[Upstream]) -> Iterator[Finding]:
    """Google counts quotas by project, so one key listed twice has one quota all the same."""
    by_key = defaultdict(list)
    for one in upstreams:
        by_key[one.base_url, one.api_key.get_secret_value()].append(one.name)
    for names in by_key.values():
        if len(names) > 1:
            yield warning(
                f"{', '.join(names)} have the same key at the same base_url: together they have one quota, not several",
                "take keys of several Google projects: their quotas are by project; even two keys of one share its",
            )
