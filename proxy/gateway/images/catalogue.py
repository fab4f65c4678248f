"""/openai/v1/models: what a key may use, what it costs and makes, as OpenAI's SDKs list and get it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from proxy.billing.model_catalogue import Entry, ModelCatalogue
from proxy.config.addresses import Network
from proxy.errors import CallerErred, Reason, Refusal
from proxy.gateway.client import Client, address
from proxy.gateway.ended import Ended
from proxy.gateway.in_flight import InFlight
from proxy.gateway.looks import Looks
from proxy.gemini import credentials
from proxy.telemetry.metrics import Metrics
from proxy.tenants.keyring import Keyring
from proxy.tenants.keys import Tenant
from proxy.upstreams.pool import Pool

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

PATH = "/openai/v1/models"
OPERATION = "images.models"
"""In metrics and the log."""

_MODEL = re.compile(r"/(?:models/)?([A-Za-z0-9][A-Za-z0-9._-]{0,127})/?")
_HEADERS = ((b"content-type", b"application/json; charset=UTF-8"), (b"cache-control", b"no-store"))


class Catalogue:
    """The endpoint behind /openai/v1/models: costs nothing, asks no upstream and leaves no record."""

    def __init__(
        self,
        catalogue: ModelCatalogue,
        *,
        keyring: Keyring,
        pool: Pool,
        needs_price: Callable[[Tenant, str], bool],
        free_calls: InFlight,
        metrics: Metrics,
        ended: Ended,
        trusted_proxies: Sequence[Network],
        now: Callable[[], int],
        monotonic: Callable[[], float],
    ) -> None:
        """`needs_price` tells whether a model is refused to a tenant where it has no price."""
        self._catalogue = catalogue
        self._keyring = keyring
        self._pool = pool
        self._needs_price = needs_price
        self._free_calls = free_calls
        self._metrics = metrics
        self._ended = ended
        self._trusted_proxies = trusted_proxies
        self._now = now
        self._monotonic = monotonic
        self._looks = Looks()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = Client(scope, send, self._monotonic())
        client.operation = OPERATION
        try:
            model = _asked(scope["method"], scope["path"])
            tenant = await self._keyring.authenticate(credentials.client_key(scope["headers"], scope["query_string"]))
            client.is_of(tenant)
            if tenant.policy.addresses:
                tenant.policy.authorize_address(address(scope, self._trusted_proxies))
            body = await self._read(tenant, model)
            await client.answer(200, [*_HEADERS, (b"content-length", b"%d" % len(body))], body)
        except Refusal as refusal:
            client.refusal = refusal
            self._metrics.refused(client.project, refusal.reason.word)
            await client.refuse(refusal, openai=True)
        finally:
            self._ended(client)

    async def _read(self, tenant: Tenant, model: str) -> bytes:
        """In a thread, when it is the project's turn: globs are held against every model."""
        self._free_calls.begin(tenant)
        try:
            async with self._looks.turn(tenant.project):
                return await asyncio.to_thread(self._get if model else self._list, tenant, model)
        finally:
            self._free_calls.end(tenant)

    def _list(self, tenant: Tenant, _: str) -> bytes:
        data = [entry.document for entry in self._catalogue.entries(self._now()) if self._offers(entry, tenant)]
        return msgspec.json.encode({"object": "list", "data": data})

    def _get(self, tenant: Tenant, model: str) -> bytes:
        tenant.policy.authorize_model(model, self._catalogue.used(model))
        entry = self._catalogue.find(model, self._now())
        if entry is None or not self._offers(entry, tenant):
            raise _not_found(f"{model} is no model that this proxy serves your project. GET {PATH} lists those.")
        return msgspec.json.encode(entry.document)

    def _offers(self, entry: Entry, tenant: Tenant) -> bool:
        """Whether the tenant's calls of that name would be taken."""
        return (
            tenant.policy.allows_model(entry.id, entry.used)
            and self._pool.serves(entry.used, tenant.project)
            and (entry.priced or not self._needs_price(tenant, entry.used))
        )


def _asked(method: str, path: str) -> str:
    """The model that a path names; "" for the list. Raises CallerErred."""
    rest = path.removeprefix(PATH)
    if method != "GET" or (rest not in ("", "/") and not rest.startswith("/")):
        raise CallerErred(Reason.UNKNOWN_OPERATION, f"Nothing is served here. Served are: GET {PATH} and {PATH}/MODEL.")
    if rest in ("", "/"):
        return ""
    found = _MODEL.fullmatch(rest)
    if found is None:
        raise _not_found(f"What stands behind {PATH}/ is no model's id. GET {PATH} lists them.")
    return found[1]


def _not_found(message: str) -> CallerErred:
    return CallerErred(Reason.MODEL_NOT_FOUND, message, param="model")
