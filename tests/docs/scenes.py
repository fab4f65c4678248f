"""What the pages suppose that a reader has: a running server, a project with calls, Redis, PostgreSQL.

A page that isn't named here is read in a fresh folder, with Google's key at hand and no server.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from random import SystemRandom
from zoneinfo import ZoneInfo

from PIL import Image
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as Asked

from proxy.billing import reports
from proxy.billing.ledger_reading import ledger_files
from proxy.billing.records import to_usd
from proxy.emulator import errors
from proxy.emulator.app import create_app
from proxy.tenants import keys, projects
from tests.certificates import make_certificate
from tests.docs.blocks import Block, blocks_of_page
from tests.docs.machine import Machine
from tests.docs.shown import difference
from tests.journeys.watching import until
from tests.pages import ROOT
from tests.postgres_servers import PASSWORD, SUPERUSER, PostgresDatabase, PostgresServer, give, postgres_folder

KEY = "AIza-of-google"
FLASH, PICTURE, PRO_PICTURE = "gemini-3.8-flash", "gemini-nano-banana-2.1", "gemini-3-pro-image"

Act = Callable[[Machine], None]


@dataclass(frozen=True)
class Scene:
    """Pages that are read one after another on one machine, and what happens there beside what they say."""

    pages: tuple[str, ...]
    begin: Act
    before: Mapping[str, Act] = field(default_factory=dict)
    """What has happened when a command that begins so is run."""
    typed: Mapping[str, str] = field(default_factory=dict)
    """What is typed when a command that begins so asks."""
    code: Mapping[str, int] = field(default_factory=dict)
    """With what a command that begins so ends, other than 0: where the page shows a problem."""
    prints: Mapping[str, str] = field(default_factory=dict)
    """Words that a command that begins so prints, where the page tells of them and doesn't show them."""


def google(machine: Machine) -> None:
    """Google answers where it is, and its key is at hand: all that a reader needs."""
    machine.google(create_app(keys={KEY}))
    machine.export(GEMINI_API_KEY=KEY)
    machine.stand_ins["export GEMINI_API_KEY=…"] = f"export GEMINI_API_KEY={KEY}"


def served(machine: Machine) -> None:
    """A server runs."""
    google(machine)
    machine.start("weighbridge serve")
    machine.export(BASE_URL="http://127.0.0.1:8080")


def block_of(page: str, language: str) -> Block:
    """The first block of a page that is in this language."""
    return next(block for block in blocks_of_page(ROOT / page) if block.language == language)


def have(machine: Machine, key: str) -> None:
    """The reader has this key, by every name that pages have for it."""
    machine.export(KEY=key, WEIGHBRIDGE_KEY=key)
    machine.stand_ins["wb_…"] = key


def take_the_key(machine: Machine) -> None:
    """The reader has taken the key that a command showed this once."""
    (*_, key) = (key for ran in machine.ran for key in re.findall(r"^wb_\w{38}$", ran.printed, re.MULTILINE))
    have(machine, key)


def call(machine: Machine, key: str, model: str, prompt: str = "hello", behind: str = "") -> None:
    """A call that the server answers well; or anyhow, where something stands `behind` the command."""
    body = f'{{"contents":[{{"parts":[{{"text":"{prompt}"}}]}}]}}'
    url = f"http://127.0.0.1:8080/v1beta/models/{model}:generateContent"
    command = f"curl -s -w '\\n%{{http_code}}' {url} -H 'x-goog-api-key: {key}' --json '{body}' {behind}"
    printed = machine.run(command).printed
    assert behind or printed.endswith("\n200"), printed


def demo(machine: Machine) -> None:
    """`make demo`, of which a reader without Google's key has read what the page shows."""
    (shown, *_) = (block for block in blocks_of_page(ROOT / "README.md") if block.language == "text")
    told = machine.start("weighbridge demo").printed
    assert not (differs := difference(f"{shown.text}…\n", told)), f"README.md: {differs}\n{told}"
    (key,) = set(re.findall(r"wb_\w{38}", told))
    have(machine, key)
    google(machine)


def calls_of_two_projects(machine: Machine) -> None:
    """What stands on the bill that README and quickstart show: alice's texts and pictures, and bob's."""
    for project, picture in {"alice": PICTURE, "bob": PRO_PICTURE}.items():
        key = machine.key(project)
        call(machine, key, FLASH)
        call(machine, key, picture)


def with_the_emulator(machine: Machine) -> None:
    """The way without a Google key: its file, its variable, and the emulator in another terminal."""
    google(machine)
    (machine.folder / "weighbridge.toml").write_text(block_of("docs/quickstart.md", "toml").text)
    machine.export(EMULATOR_KEY="emulator-key")
    machine.start("weighbridge emulator")


def the_key_of_the_page(machine: Machine) -> None:
    """The key that there is stands for the one that the page names."""
    key = keys.list_keys(machine.database())[-1]
    machine.stand_ins["key_TaFBPyzZgKVCDfNC"] = key.id
    take_the_key(machine)
    machine.stand_ins["wb_MYlk"] = machine.stand_ins["wb_…"][:7]


def elsewhere(machine: Machine, data_dir: str) -> None:
    """What follows is on another data folder."""
    machine.export(WEIGHBRIDGE_STORAGE__DATA_DIR=data_dir)


def changes(machine: Machine, *models: str) -> None:
    """A project was made, then its key; then the project was changed."""
    elsewhere(machine, "changed")
    machine.key("alice", "rpm=60", data_dir="changed")
    database, now = machine.database("changed"), time.time_ns() // 1000
    projects.update(database, "alice", now, actor="cli:test", limits=["rpm=90"], models=models or None)


def changes_of_a_key(machine: Machine) -> None:
    """And then the key was rotated."""
    changes(machine)
    database, now = machine.database("changed"), time.time_ns() // 1000
    (key,) = keys.list_keys(database)
    keys.rotate(database, key.id, now, SystemRandom().randrange, actor="cli:test", overlap=3600 * 10**6)


def a_newer_book(machine: Machine) -> None:
    """Somebody has brought the program's book with a later date and other prices."""
    book = (ROOT / "proxy/billing/price_book.toml").read_text("utf-8").replace("2026-11-21", "2026-12-05")
    book = book.replace("output_image = 120", "output_image = 110")
    before, argon, behind = book.partition('id = "gemini-4-argon"')
    behind = behind.replace("output_text = 20", "output_text = 25", 1)
    (machine.folder / "price_book.toml").write_text(before + argon + behind)


def reference(machine: Machine) -> None:
    """A server runs, whose project alice has limits, and the reader has a picture."""
    served(machine)
    have(machine, machine.key("alice", "rpm=60;ipm=2;usd=10,per=month"))
    Image.new("RGB", (64, 48), "grey").save(machine.folder / "lorry-before.jpg")


def limits_in_use(machine: Machine) -> None:
    """alice of that server has other limits now, a key with one, and calls under way."""
    elsewhere(machine, "weighbridge-data")
    limits = ["rpd=1500", "ipm=none", "ipm=5,model=gemini-3*,shadow", "concurrency=10", "usd=100,per=month"]
    now = time.time_ns() // 1000
    projects.update(machine.database(), "alice", now, actor="cli:test", limits=limits)
    key = machine.key("alice", of_key="rpd=200")
    have(machine, key)
    asks = 'curl -s http://127.0.0.1:8080/weighbridge/v1/limits -H "x-goog-api-key: $KEY"'
    until(lambda: machine.run(asks).printed.count('"kind"') == len(limits) + 1, "the limits are in force")
    for _ in range(2):
        call(machine, key, FLASH, "[[stall]]", "&")
    until(lambda: re.search(r'"concurrency"[^}]*"used": ?2\b', machine.run(asks).printed), "calls are under way")


def cost_table(machine: Machine) -> None:
    """Google's account of the day: of texts it is ours; of pictures it lacks two, since their answers broke off."""
    key = machine.key("alice")
    call(machine, key, FLASH)
    for _ in range(2):
        call(machine, key, PICTURE, "[[break-after=1000]]", "|| true")
    day = datetime.now(ZoneInfo("America/Los_Angeles")).date()
    lines = ["Date,Model,Cost ($)"]
    for record in reports.export(ledger_files(machine.folder / "weighbridge-data")):
        if record.outcome == "ok":
            lines.append(f"{day},{record.model},{to_usd(record.cost_usd or 0)}")
    (machine.folder / "cost-table.csv").write_text("\n".join(lines))


def exhausted(app: ASGIApp, key: str) -> ASGIApp:
    """Google, where one key's quota for a model is used up."""

    async def answer(scope: Asked, receive: Receive, send: Send) -> None:
        if (b"x-goog-api-key", key.encode()) in scope["headers"] and scope["path"].endswith(f"{FLASH}:generateContent"):
            error = errors.named("429", FLASH, "v1beta", "generateContent")
            body = error.body().replace(b'"45s"', b'"110s"')  # not over before it is looked at
            await Response(body, error.code, media_type="application/json")(scope, receive, send)
        else:
            await app(scope, receive, send)

    return answer


UPSTREAMS = f"""
[[upstreams]]
name = "google"
api_key_env = "FIRST"
weight = 3
[upstreams.limits."{FLASH}"]
rpm = 60
[[upstreams]]
name = "google-2"
api_key_env = "SECOND"
[upstreams.limits]
rpm = 4
[[upstreams]]
name = "spare"
base_url = "http://10.0.0.7:8080"
api_key_env = "SECOND"
priority = 1
"""


def upstreams(machine: Machine) -> None:
    """Three upstreams, of which one is out of quota for a model, and one has no room."""
    machine.google(exhausted(create_app(keys={"second"}), "first"))
    machine.export(FIRST="first", SECOND="second")
    (machine.folder / "weighbridge.toml").write_text(UPSTREAMS)
    machine.run("weighbridge upstreams disable spare")
    machine.start("weighbridge serve")
    key = machine.key("alice")
    for _ in range(4):
        call(machine, key, FLASH)


DOUBTFUL = """
[server]
tls_cert = "tls.pem"
tls_key = "tls.key"
[[upstreams]]
name = "google"
api_key_env = "WRONG"
[[upstreams]]
name = "second"
api_key_env = "SECOND"
"""


def doubtful(machine: Machine) -> None:
    """Google refuses the key of the first upstream, and everybody can read the server's own."""
    google(machine)
    certificate = make_certificate(machine.folder, "tls")
    certificate.path.rename(machine.folder / "tls.key").chmod(0o644)
    certificate.path.write_bytes((machine.folder / "tls.key").read_bytes())
    machine.export(WRONG="AIza-of-somebody-else", SECOND=KEY)
    (machine.folder / "weighbridge.toml").write_text(DOUBTFUL)


def postgres(machine: Machine) -> None:
    """A PostgreSQL at db.example that shows a certificate; in it is what the page says to make."""
    google(machine)
    folder = machine.at_end.enter_context(postgres_folder())
    certificate = make_certificate(folder, "db.example").path
    settings = {"ssl": "on", "ssl_cert_file": str(give(certificate)), "ssl_key_file": str(certificate)}
    server = PostgresServer(folder / "cluster", settings=settings)
    machine.at_end.callback(server.stop)
    server.start()
    machine.forward(5432, server.port)
    with PostgresDatabase("postgres", server.port).client(SUPERUSER) as client:
        client.execute("DROP ROLE weighbridge")
        for statement in block_of("docs/postgresql.md", "sql").text.replace("…", PASSWORD).splitlines():
            client.execute(statement.encode())
    authority = machine.notes / "db-ca.pem"
    authority.write_bytes(certificate.read_bytes())
    toml = block_of("docs/postgresql.md", "toml").text.replace("/etc/weighbridge/db-ca.pem", str(authority))
    (machine.folder / "weighbridge.toml").write_text(toml)
    machine.export(DATABASE_PASSWORD=PASSWORD)


def redis(machine: Machine) -> None:
    """A Redis on this machine."""
    google(machine)
    machine.start("redis-server --save ''")


SCENES = (
    Scene(
        ("README.md",),
        demo,
        {
            ". .venv/bin/activate": lambda machine: machine.stop("demo"),
            "weighbridge usage report": calls_of_two_projects,
        },
    ),
    Scene(
        ("docs/quickstart.md",),
        with_the_emulator,
        {"curl": take_the_key, "weighbridge usage report": calls_of_two_projects},
    ),
    Scene(
        ("docs/budgets.md", "docs/account.md", "docs/admin-api.md", "docs/troubleshooting.md"),
        served,
        {"curl": take_the_key},
    ),
    Scene(
        ("docs/commands.md",),
        reference,
        {
            "weighbridge project create": lambda machine: elsewhere(machine, "made"),
            "weighbridge audit list": changes_of_a_key,
            "weighbridge limits show": limits_in_use,
            "weighbridge usage reconcile": cost_table,
        },
        code={"weighbridge image --check": 1, "weighbridge usage reconcile": 1},
    ),
    Scene(("docs/doctor.md",), doubtful, code={"weighbridge doctor": 1}),
    Scene(("docs/emulator.md",), google, prints={"curl": "RESOURCE_EXHAUSTED"}),
    Scene(
        ("docs/keys.md",),
        google,
        {
            "weighbridge key rotate": the_key_of_the_page,
            "weighbridge audit list": lambda machine: changes(machine, "gemini-*"),
        },
    ),
    Scene(
        ("docs/metering.md",), google, {"weighbridge prices update": a_newer_book}, {"weighbridge prices update": "y\n"}
    ),
    Scene(("docs/upstreams.md",), upstreams),
    Scene(("docs/postgresql.md",), postgres),
    Scene(("docs/workers.md",), redis),
)
