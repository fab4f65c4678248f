"""`weighbridge doctor --assumptions`: says what it will cost, asks, calls, keeps the answers, and tells what held."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import typer

from proxy.billing.prices import PriceBook
from proxy.billing.records import to_rfc3339, to_usd
from proxy.cli import output
from proxy.cli.doctor import upstreams
from proxy.cli.doctor.assumptions import answers, kept, trials
from proxy.cli.doctor.assumptions.answers import Answer
from proxy.cli.doctor.assumptions.calls import TrialCall, calls
from proxy.cli.doctor.assumptions.trials import Told
from proxy.cli.doctor.assumptions.verdicts import Answers, Held
from proxy.cli.options import CommandError
from proxy.clock import unix_us
from proxy.config.schema import Settings
from proxy.config.upstreams import Upstream
from proxy.store.folders import make_folder

Hide = Callable[[str], str]


class Planned(NamedTuple):
    """A call, and nano-dollars that it costs at most; or why it isn't made."""

    call: TrialCall
    most: int | None
    why_not: str = ""


def try_assumptions(settings: Settings, hide: Hide, *, yes: bool, json: bool) -> bool:
    """Whether none failed, of those that could be tried. `hide` takes secrets out of a text. Raises CommandError."""
    upstream, book, at = settings.upstreams[0], _book(settings), unix_us()
    secret = upstream.api_key.get_secret_value()
    folder = settings.storage.data_dir / "assumptions" / to_rfc3339(at)[:19].replace(":", "-")
    _refuse_unasked(_plan(book, at, None), yes=yes, json=json)
    with upstreams.client_of(upstream, answers.ANSWERED_WITHIN_S) as client:
        plan = _plan(book, at, _offered(client, upstream, hide))
        if not json:
            _tell_plan(plan, upstream, book, folder)
        if not yes and not typer.confirm("Make these calls?"):
            output.line("Nothing was called.")
            return True
        make_folder(folder)
        made = [_make(each, client, upstream, book, folder, secret) for each in plan if not each.why_not]
    told = trials.tell(Answers({answer.call.name: answer for answer in made if not answer.problem}, book, at))
    document = kept.verdicts(folder, _document(upstream, book, folder, plan, made, told), secret)
    if json:
        output.document(document)
    else:
        _tell(document)
    return bool(document["ok"])


def _book(settings: Settings) -> PriceBook:
    try:
        return PriceBook.load(settings.prices, settings.storage.prices_file)
    except ValueError as error:
        raise CommandError(str(error)) from None


def _refuse_unasked(plan: Sequence[Planned], *, yes: bool, json: bool) -> None:
    if not yes and (json or not sys.stdin.isatty()):
        why = "--json asks nothing" if json else "there is no terminal to ask at"
        raise CommandError(
            f"nothing was called: this makes {len(plan)} calls with your own key, for ${_usd(plan)} at most, so it "
            f"asks first, and {why}. Give --yes where you agree."
        )


def _plan(book: PriceBook, at: int, offered: Sequence[str] | None) -> list[Planned]:
    """`offered` are the models that the upstream has; None where that isn't known yet."""
    plan = []
    for call in calls():
        most = call.most(book, at)
        why_not = "" if most is not None else f"{call.model} has no rate that bounds its cost"
        if offered is not None and call.model not in offered:
            why_not = f"the upstream doesn't offer {call.model}"
        plan.append(Planned(call, most, why_not))
    return plan


def _usd(plan: Sequence[Planned]) -> str:
    return to_usd(sum(each.most or 0 for each in plan if not each.why_not))


def _offered(client: httpx2.Client, upstream: Upstream, hide: Hide) -> list[str]:
    """The models that the upstream offers to this key: a list that is free. Raises CommandError."""
    offered: list[str] = []
    try:
        for answer, listed in upstreams.pages(client, upstream):
            if listed is None:
                finding = upstreams.refusal(answer.status_code, answer.content, upstream)
                raise CommandError(hide(f"{finding.what}. To do: {finding.do}"))
            offered += listed
    except httpx2.HTTPError as error:
        finding = upstreams.unreachable(error, upstream)
        raise CommandError(hide(f"{finding.what}. To do: {finding.do}")) from None
    return offered


def _make(
    each: Planned, client: httpx2.Client, upstream: Upstream, book: PriceBook, folder: Path, secret: str
) -> Answer:
    answer = answers.make(each.call, client, upstream.base_url, book, unix_us)
    kept.keep(folder, answer, secret)
    return answer


def _document(
    upstream: Upstream,
    book: PriceBook,
    folder: Path,
    plan: Sequence[Planned],
    made: Sequence[Answer],
    told: Sequence[Told],
) -> dict[str, Any]:
    """All that is to be told, as JSON has it."""
    came = {answer.call.name: answer for answer in made}
    costs = [answer.priced.cost for answer in made if answer.quantities]
    return {
        "ok": not any(one.verdict is Held.FAILED for one in told) and any(not answer.problem for answer in made),
        "upstream": upstream.name,
        "price_source": book.source,
        "at_most_usd": _usd(plan),
        "cost_usd": to_usd(sum(cost or 0 for cost in costs)),
        "kept_in": str(folder),
        "calls": [_call(each, came.get(each.call.name)) for each in plan],
        "assumptions": [one._asdict() for one in told],
    }


def _call(each: Planned, answer: Answer | None) -> dict[str, Any]:
    return {
        "call": each.call.name,
        "operation": each.call.operation,
        "model": each.call.model,
        "at_most_usd": None if each.most is None else to_usd(each.most),
        "status": answer.status or None if answer else None,
        "cost_usd": kept.cost(answer) if answer else None,
        "problem": (answer.problem if answer else each.why_not) or None,
    }


def _tell_plan(plan: Sequence[Planned], upstream: Upstream, book: PriceBook, folder: Path) -> None:
    output.line(f"To {upstream.base_url}, with the key of upstream {upstream.name}, past the ledger:\n")
    rows = [
        (each.call.name, each.call.operation, each.call.model, each.why_not or f"${to_usd(each.most or 0)}")
        for each in plan
    ]
    output.table(("CALL", "OPERATION", "MODEL", "AT MOST"), rows)
    output.line()
    output.wrapped(
        f"${_usd(plan)} at most in all, by {book.source}, where maxOutputTokens bounds all output "
        "(A-CAP-BOUNDS-OUTPUT); mostly a third of that. The answers are kept, without key and pictures, "
        f"in {folder}."
    )


def _tell(document: dict[str, Any]) -> None:
    for call in document["calls"]:
        if call["problem"]:
            output.wrapped(f"{call['call']} told nothing: {call['status'] or ''} {call['problem']}")
    output.line()
    told = [one for one in document["assumptions"] if one["verdict"] != Held.UNTRIED]
    for one in sorted(told, key=lambda one: list(Held).index(Held(one["verdict"]))):
        output.wrapped(f"{one['verdict']:7}  {one['name']}: {one['seen']}")
        if one["verdict"] == Held.FAILED:
            output.wrapped(f"assumed: {one['says']}", 9)
            output.wrapped(f"on the bill: {one['bill']}", 9)
        if one["do"]:
            output.wrapped(f"→ {one['do']}", 9)
    output.line()
    untried = [one["name"] for one in document["assumptions"] if one["verdict"] == Held.UNTRIED]
    output.wrapped(f"No answer can tell of {', '.join(untried)}: {trials.BILL}.")
    output.line(f"\n${document['cost_usd']} by the answers' own usage. They are kept in {document['kept_in']}")
