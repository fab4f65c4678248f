"""`weighbridge events`: list, test."""

from __future__ import annotations

import asyncio
import json as jsonlib
import os
import secrets
import time
from typing import Annotated, Any

import typer

from proxy.billing.records import id_maker
from proxy.cli import options, output
from proxy.cli.options import CommandError, ConfigOption, JsonOption
from proxy.clock import unix_us
from proxy.config.load import load
from proxy.config.schema import Events
from proxy.control import event_table, events
from proxy.control.event_table import Event
from proxy.control.webhook import Answer, Webhook
from proxy.store.database import open_database

app = options.group("What others are told of: budgets that are used up.")


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, max=10_000, help="At most so many.")] = 50,
    undelivered: Annotated[
        bool, typer.Option("--undelivered", help="Those that the webhook hasn't taken yet.")
    ] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """List events, the newest first, and whether the webhook took them.

    Example: `weighbridge events list --undelivered`
    """
    database = open_database(options.settings(config).storage)
    found = event_table.list_events(database, limit=limit, undelivered_only=undelivered)
    if json:
        output.document([_fields(event) for event in found])
        return
    rows = [(output.minute(event.created_at), event.id, event.type, _what(event), _delivery(event)) for event in found]
    if rows:
        output.table(("TIME (UTC)", "EVENT", "TYPE", "WHAT", "DELIVERED"), rows)
    else:
        output.line("No event waits to be delivered." if undelivered else "Nothing is on record here.")


@app.command("test")
def send_test(config: ConfigOption = None, json: JsonOption = False) -> None:
    """Send an event of the type `test` to the webhook, once, and say what it answers. Ends with 1 if it isn't taken.

    Example: `weighbridge events test`
    """
    webhook = _webhook(load(config, os.environ).events)
    new_id = id_maker(lambda: time.time_ns() // 1_000_000, secrets.token_bytes)()
    event = events.make("test", {"message": "A test of the webhook."}, new_id, unix_us(), new_id)
    began = time.monotonic()
    answer = asyncio.run(_send(webhook, event))
    milliseconds = round((time.monotonic() - began) * 1000)
    if json:
        told = {"id": event.id, "to": webhook.host, "status": answer.status, "answer": answer.said}
        output.document({"ok": answer.taken} | told | {"milliseconds": milliseconds})
        raise typer.Exit(0 if answer.taken else 1)
    if not answer.taken:
        raise CommandError(f"{webhook.host} didn't take {event.id}: {answer.said}. {_advice(answer)}")
    output.line(f"{webhook.host} took {event.id}: it answered {answer.said} after {milliseconds} ms.")


def _webhook(settings: Events) -> Webhook:
    if not settings.webhook_url or settings.webhook_secret is None:
        raise CommandError("there is no webhook: events.webhook_url in the configuration names one")
    return Webhook(settings.webhook_url, settings.webhook_secret.get_secret_value())


async def _send(webhook: Webhook, event: Event) -> Answer:
    try:
        return await webhook.send(event.id, event.body.encode(), event.created_at // 1_000_000)
    finally:
        await webhook.aclose()


def _advice(answer: Answer) -> str:
    if answer.status is None:
        return "Look at the address, and at the network between; it must answer within 20 seconds."
    if 300 <= answer.status < 400:
        return "No redirect is followed: set events.webhook_url to where it leads."
    if answer.status in (400, 401, 403):
        return "It may not know the secret, or reads the signature otherwise: docs/events.md says how to verify it."
    return "Any status from 200 to 299 is taken for a receipt."


def _fields(event: Event) -> dict[str, Any]:
    fields = event._asdict() | jsonlib.loads(event.body)
    times = {name: output.moment(fields[name]) for name in ("next_attempt_at", "delivered_at")}
    return {name: fields[name] for name in ("id", "type", "created_at", "data", "attempts", "last_answer")} | times


def _what(event: Event) -> str:
    data = jsonlib.loads(event.body)["data"]
    if event.type != "budget.threshold":
        return jsonlib.dumps(data, ensure_ascii=False)
    whose = " ".join(filter(None, (data["project"], data["key_id"])))
    models = "" if data["model"] == "*" else f" for models {data['model']}"
    budget = f"${data['budget_usd']}{models}, {data['period']}{', shadow' if data['shadow'] else ''}"
    return f"{whose}: {data['threshold']} % of {budget} (${data['spent_usd']})"


def _delivery(event: Event) -> str:
    if event.delivered_at is not None:
        return output.minute(event.delivered_at)
    if event.next_attempt_at is None:
        return "there was no webhook"
    times = "once" if event.attempts == 1 else f"{event.attempts} times"
    tried = f"tried {times} ({event.last_answer or 'no answer yet'}), " if event.attempts else ""
    return f"no: {tried}next at {output.minute(event.next_attempt_at)}"
