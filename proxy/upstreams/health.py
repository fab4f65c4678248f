"""What is known of each upstream: which of them are out, why, and until when. One call at a time finds out the rest."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import structlog

from proxy.gemini.exhausted import Exhausted

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("weighbridge")

ALL_MODELS = "*"
FAILURES = 3
"""Connections in a row that fail before the circuit opens: one may have been closed while it was idle."""
OPEN_S = (5.0, 10.0, 20.0, 40.0, 60.0)
"""How long a circuit stays open, the first time and each time that a probe fails."""
OVERLOADED_S = 1.0, 3.0
"""After a 503, by jitter between these."""
CREDENTIAL_S = 60.0
"""After a credential was refused, until it is checked again."""
PROBE_S = 5.0
"""How long the others wait for what one probe finds out."""
COUNTED_S = 60.0
"""How long one that is over is still counted, where no call has found out whether it is."""
REMEMBERED = 10_000
"""Outages from which on some are forgotten: those that are over, and the oldest if need be."""


class Why(StrEnum):
    """Why an upstream is out."""

    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    CREDENTIAL_REFUSED = "credential_refused"
    UNREACHABLE = "unreachable"


_ENDS_AT_ONCE = frozenset((Why.UNREACHABLE, Why.CREDENTIAL_REFUSED))
"""Whatever succeeds disproves these; a quota's window, or an overload, only its own end does."""

SAID = frozenset(Why) - {Why.UNREACHABLE}
"""What an upstream says of itself holds for all who ask it. What can't be reached from here, others may reach."""


@dataclass(slots=True)
class Outage:
    """An upstream is out, for one model or for all. Times are seconds of the clock that Health was given."""

    why: Why
    since: float
    until: float
    """From then on one call at a time is let through, as a probe, until one succeeds."""
    times: int = 1
    """How often in a row."""
    probing_until: float = 0.0
    exhausted: Exhausted | None = None


class News(NamedTuple):
    """What an upstream said of itself, for other processes; or that it is back."""

    upstream: str
    model: str
    why: Why
    seconds: float | None
    """How long it is out, from now on; None where it is back."""
    exhausted: Exhausted | None = None


class Health:
    """The outages of all upstreams, under every configuration. Whoever selects asks when `generation` has changed."""

    def __init__(
        self,
        now: Callable[[], float],
        jitter: Callable[[], float],
        midnight_s: Callable[[], float],
        on_change: Callable[[str, bool], object] = lambda upstream, available: None,
    ) -> None:
        """`now` is a clock that nobody sets, `jitter` gives random numbers from 0 to 1, `midnight_s` the seconds until
        the day ends in Los Angeles, where Google's daily quotas do. `on_change` is told whether an upstream may be
        asked for anything at all."""
        self.now = now
        self.generation = 0
        self.disabled: frozenset[str] = frozenset()
        """Upstreams that the operator took out."""
        self.on_news: Callable[[News], object] = lambda news: None
        """Is told what this process finds out and others should know."""
        self._jitter = jitter
        self._midnight_s = midnight_s
        self._on_change = on_change
        self._outages: dict[tuple[str, str], Outage] = {}
        self._failures: dict[str, int] = {}

    def outage(self, upstream: str, model: str) -> Outage | None:
        """What keeps the calls of a model from an upstream, or did until no call has found out that it is over."""
        if not self._outages:
            return None
        of_all, of_model = self._outages.get((upstream, ALL_MODELS)), self._outages.get((upstream, model))
        if of_all is None or of_model is None:
            return of_all or of_model
        return of_all if of_all.until >= of_model.until else of_model

    def outages(self, upstream: str) -> Iterator[tuple[str, Outage]]:
        """All that an upstream has, by model."""
        return ((model, outage) for (name, model), outage in self._outages.items() if name == upstream)

    def available(self, upstream: str) -> bool:
        """Whether it may be asked for anything."""
        return upstream not in self.disabled and (upstream, ALL_MODELS) not in self._outages

    def models_out(self) -> dict[str, int]:
        """For how many models each upstream is out, all of them at once left out. May be called in any thread.

        What is over counts a little longer: by then a call has found out what is so, if there is any.
        """
        found: dict[str, int] = {}
        over = self.now() - COUNTED_S
        for (upstream, model), outage in list(self._outages.items()):
            if model != ALL_MODELS and outage.until > over:
                found[upstream] = found.get(upstream, 0) + 1
        return found

    def unprobed(self, upstream: str, model: str) -> bool:
        """Whether its time is over, and no call finds out now whether it is back."""
        outage = self.outage(upstream, model)
        return outage is None or self.now() >= max(outage.until, outage.probing_until)

    def claim(self, upstream: str, model: str) -> bool:
        """Whether to probe an upstream whose time is over: yes for the first who asks."""
        if not self.unprobed(upstream, model):
            return False
        if outage := self.outage(upstream, model):
            outage.probing_until = self.now() + PROBE_S
        return True

    def unclaim(self, upstream: str, model: str) -> None:
        """The call that was to probe never went up: the next one may."""
        if outage := self.outage(upstream, model):
            outage.probing_until = 0.0

    def well(self, upstream: str, model: str, began: float) -> None:
        """It answered an attempt that began then, and refused it for none of these reasons."""
        if self._failures:
            self._failures.pop(upstream, None)
        if self._outages:
            for name in (ALL_MODELS, model):
                outage = self._outages.get((upstream, name))
                if outage and began >= (outage.since if outage.why in _ENDS_AT_ONCE else outage.until):
                    self._end(upstream, name)
                    if outage.why in SAID:
                        self.on_news(News(upstream, name, outage.why, None))

    def heard(self, news: News) -> None:
        """What another process found out. Where both know of an outage, the later end counts."""
        known = self._outages.get((news.upstream, news.model))
        if news.seconds is None:
            if known and known.why in SAID:
                self._end(news.upstream, news.model)
        elif known is None or known.until < self.now() + news.seconds:
            self._out(news.upstream, news.model, news.why, news.seconds, news.exhausted, heard=True)

    def exhausted(self, upstream: str, model: str, said: Exhausted) -> None:
        """It answered 429."""
        self._reached(upstream)
        seconds = self._midnight_s() if said.daily else said.seconds
        self._out(upstream, ALL_MODELS if said.all_models else model, Why.RATE_LIMITED, seconds, said)

    def overloaded(self, upstream: str, model: str) -> None:
        """It answered 503."""
        self._reached(upstream)
        least, most = OVERLOADED_S
        self._out(upstream, model, Why.OVERLOADED, least + (most - least) * self._jitter())

    def credential_refused(self, upstream: str) -> None:
        """It refused the operator's credential."""
        self._reached(upstream)
        known = self._outages.get((upstream, ALL_MODELS))
        if known and known.why is Why.CREDENTIAL_REFUSED and self.now() < known.until:
            return  # said a minute ago at most; one that is alone is asked all the same
        self._out(upstream, ALL_MODELS, Why.CREDENTIAL_REFUSED, CREDENTIAL_S)

    def failed(self, upstream: str) -> None:
        """It couldn't be reached, or broke off without an answer."""
        failures = self._failures[upstream] = self._failures.get(upstream, 0) + 1
        known = self._outages.get((upstream, ALL_MODELS))
        opened = known if known and known.why is Why.UNREACHABLE else None
        if opened and self.now() < opened.until:
            return  # by a call that was under way when the circuit opened
        if opened or failures >= FAILURES:
            times = opened.times if opened else 0
            self._out(upstream, ALL_MODELS, Why.UNREACHABLE, OPEN_S[min(times, len(OPEN_S) - 1)])

    def disable(self, names: Collection[str]) -> None:
        """These are the ones that the operator took out."""
        changed = self.disabled ^ (disabled := frozenset(names))
        self.disabled = disabled
        for name in changed:
            log.warning("upstream_disabled" if name in disabled else "upstream_enabled", upstream=name)
            self._changed(name)

    def forget(self, upstream: str) -> None:
        """It isn't the one that it was: its settings have changed."""
        self._failures.pop(upstream, None)
        for model in [model for model, _ in self.outages(upstream)]:
            self._end(upstream, model)
        self._changed(upstream)

    def _reached(self, upstream: str) -> None:
        """It said something, whatever that was."""
        self._failures.pop(upstream, None)
        known = self._outages.get((upstream, ALL_MODELS))
        if known and known.why is Why.UNREACHABLE:
            self._end(upstream, ALL_MODELS)

    def _out(
        self,
        upstream: str,
        model: str,
        why: Why,
        seconds: float,
        exhausted: Exhausted | None = None,
        *,
        heard: bool = False,
    ) -> None:
        """Takes it out: said once, until it is back; a refused credential also where it was out already."""
        now = self.now()
        known = self._outages.get((upstream, model))
        before = known.why if known else None
        if known is None or now >= known.until:
            times = known.times + 1 if known and known.why is why else 1
            since = known.since if known else now
            self._outages[upstream, model] = Outage(why, since, now + seconds, times, exhausted=exhausted)
        elif now + seconds > known.until or (why is not known.why and why is not Why.OVERLOADED):
            known.why, known.until, known.exhausted = why, max(known.until, now + seconds), exhausted
        else:
            return
        if why is Why.CREDENTIAL_REFUSED is not before:
            what = (
                "it refuses its key: renew that. One in api_key_file is taken while the server runs, one in "
                "api_key_env by a restart; `weighbridge doctor` looks at it"
            )
            log.error("upstream_credential_refused", upstream=upstream, what=what, checked_again_in_s=seconds)
        elif before is None:
            self._make_room()
            lasts = math.ceil(seconds)
            log.warning("upstream_out", upstream=upstream, model=model, why=why, seconds=lasts, heard=heard)
        self._changed(upstream)
        if why in SAID and not heard:
            until = self._outages[upstream, model].until
            self.on_news(News(upstream, model, why, until - now, exhausted))

    def _make_room(self) -> None:
        """A caller may name any model, and an upstream refuse it: what is over and nobody asked for again goes.

        Half of the room is made at least, so that it needn't be made again soon.
        """
        if len(self._outages) > REMEMBERED:
            now, oldest = self.now(), len(self._outages) - REMEMBERED // 2
            self._outages = {
                key: outage
                for at, (key, outage) in enumerate(self._outages.items())
                if key[1] == ALL_MODELS or (now < outage.until and at >= oldest)
            }

    def _end(self, upstream: str, model: str) -> None:
        outage = self._outages.pop((upstream, model))
        seconds = math.ceil(self.now() - outage.since)
        log.warning("upstream_back", upstream=upstream, model=model, why=outage.why, seconds=seconds)
        self._changed(upstream)

    def _changed(self, upstream: str) -> None:
        self.generation += 1
        self._on_change(upstream, self.available(upstream))
