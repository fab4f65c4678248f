"""The image: what it is made of, and that what it starts serves: by a user without a name, in a read-only root."""

from __future__ import annotations

import fnmatch
import re
from pathlib import Path

from proxy import __version__
from proxy.config.load import read
from tests.deploy.contained import Contained, container
from tests.deploy.image import FILE, ROOT, stages

KEY = {"GEMINI_API_KEY": "a-key-of-nobody"}


def test_both_stages_stand_on_one_image_that_is_named_by_its_digest() -> None:
    """The environment that the first stage makes is a path to the base's Python, and to no other one."""
    assert len({stage.base for stage in stages()}) == 1
    assert re.fullmatch(r"python:3\.1\d\.\d+-slim-[a-z]+@sha256:[0-9a-f]{64}", stages()[0].base)


def test_the_last_stage_installs_nothing_and_runs_as_a_number_that_is_not_root() -> None:
    image = stages()[-1]
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", image.user)
    assert not re.search(r"pip|apt|curl|wget", " ".join(image.runs))
    assert image.copied == []


def test_what_is_copied_is_there_and_not_ignored() -> None:
    """.dockerignore lets through what the Dockerfile copies, and no file of the checkout that may hold a secret."""
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    let_in = [rule.removeprefix("!") for rule in rules if rule.startswith("!")]
    copied = [source.rstrip("/") for source in stages()[0].copied]
    assert sorted(copied) == sorted(let_in)
    assert [name for name in copied if not (ROOT / name).exists()] == []
    secret = (".env", "weighbridge.toml", "weighbridge-data/admin-token", ".git/config")
    assert [name for name in secret if any(fnmatch.fnmatch(name, f"{rule}*") for rule in let_in)] == []


def test_all_that_is_installed_from_is_copied() -> None:
    """What deploy/install reads of a checkout, with the requirements that the Dockerfile chooses."""
    (chosen,) = re.findall(r"REQUIREMENTS=(\w+)", " ".join(stages()[0].runs))
    script = (ROOT / "deploy" / "install").read_text("utf-8").replace("${REQUIREMENTS:-main}", chosen)
    read = set(re.findall(r'"\$here/([\w./-]+)"', script))
    assert read >= {"proxy", f"requirements/{chosen}.txt"}
    assert read | {"deploy/install"} == set(stages()[0].copied)


def test_the_image_says_the_version_of_the_program() -> None:
    assert stages()[-1].labels["org.opencontainers.image.version"] == __version__
    assert re.findall(r"weighbridge:(\d\S*)", FILE.read_text("utf-8")) == [__version__]


def test_its_environment_is_of_settings_that_exist_and_opens_what_it_exposes(tmp_path: Path) -> None:
    image = stages()[-1]
    settings = read(None, {**image.environment, **KEY}).settings
    assert [settings.server.port, settings.server.admin_port] == image.ports
    assert {settings.server.host, settings.server.admin_host} == {"0.0.0.0"}
    assert [str(settings.storage.data_dir)] == image.volumes


def test_it_serves_and_its_health_check_says_so(served: Contained) -> None:
    asked = served.run(*stages()[-1].health)
    assert (asked.returncode, asked.stderr) == (0, "")


def test_the_health_check_fails_where_nobody_listens(served: Contained) -> None:
    """Asked of another port: what it says is what the door says, and not that Python started."""
    elsewhere = [part.replace("8081", "8082") for part in stages()[-1].health]
    assert served.run(*elsewhere).returncode != 0


def test_its_root_cannot_be_written_by_root_either(served: Contained) -> None:
    assert "Read-only file system" in served.run("sh", "-c", "echo > /opt/weighbridge/x", user="0").stderr
    assert "Read-only file system" in served.run("sh", "-c", "echo > /etc/weighbridge/x", user="0").stderr


def test_commands_work_beside_it_for_a_user_without_a_name(served: Contained) -> None:
    """As `docker exec` runs them: a project, what the server that runs knows of it, and who made it."""
    for command in ("project create alice", "limits show alice", "audit list"):
        said = served.run("weighbridge", *command.split())
        assert said.returncode == 0, said.stderr
    assert "65532" in said.stdout


def test_on_a_pods_volume_it_serves_and_ends_in_order(tmp_path: Path, containers: None) -> None:
    """Root's, and open to the pod's group, as Kubernetes hands one out. SIGTERM drains, and it ends with 0."""
    environment = {**KEY, "WEIGHBRIDGE_SERVER__LAME_DUCK_SECONDS": "0"}
    with container(tmp_path, environment, mode=0o2775, owner=0) as started:
        assert started.process.stdout is not None
        assert started.process.stdout.readline().startswith("Weighbridge serves at"), (tmp_path / "log").read_text()
        assert started.stop() == 0
    assert "draining" in (tmp_path / "log").read_text()


def test_without_a_key_it_says_what_to_set(tmp_path: Path, containers: None) -> None:
    with container(tmp_path, {}) as started:
        assert started.process.wait(30) != 0
    assert "set GEMINI_API_KEY" in (tmp_path / "log").read_text()
