"""What docs/deploy/docker.md and kubernetes.md say to type, held against Compose, chart, image and program."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
import yaml

from proxy import __version__
from proxy.cli.main import app
from tests.deploy import chart, compose
from tests.deploy.image import stages
from tests.pages import text_of

DOCKER, KUBERNETES = "docs/deploy/docker.md", "docs/deploy/kubernetes.md"


def _blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text_of(page), re.MULTILINE | re.DOTALL)


def _commands(page: str, program: str) -> list[str]:
    """Every command of a page that begins with the program's name, its lines as one."""
    typed = "\n".join(_blocks(page, "sh")).replace("\\\n", " ")
    return [line.removeprefix(f"{program} ") for line in typed.splitlines() if line.startswith(f"{program} ")]


def test_commands_of_compose_name_services_and_profiles_that_there_are() -> None:
    services = compose.services({"GEMINI_API_KEY": "a-key-of-nobody"})
    commands = _commands(DOCKER, "docker compose")
    assert len(commands) > 10
    assert [command for command in commands if not compose.names_what_is_there(command, services)] == []


def test_an_override_is_of_a_service_and_mounts_where_the_image_looks() -> None:
    (override,) = (yaml.safe_load(block) for block in _blocks(DOCKER, "yaml"))
    assert override["services"].keys() <= compose.services({"GEMINI_API_KEY": "a-key-of-nobody"}).keys()
    assert override["services"]["weighbridge"]["volumes"] == [f"./config:{stages()[-1].folder}:ro"]


def test_a_container_without_compose_has_what_compose_gives_it() -> None:
    (run,) = _commands(DOCKER, "docker run")
    service = compose.services({"GEMINI_API_KEY": "a-key-of-nobody"})["weighbridge"]
    assert run.rstrip().endswith(service["image"])
    for port in service["ports"]:
        assert f"--publish {port}" in run
    assert f":{stages()[-1].volumes[0]} " in run
    assert f"--stop-timeout {service['stop_grace_period'].removesuffix('s')}" in run
    for bound in ("--read-only", "--tmpfs /tmp", "--cap-drop ALL", "--security-opt no-new-privileges"):
        assert bound in run
    (build,) = _commands(DOCKER, "docker build")
    assert f"--tag weighbridge:{__version__}" in build


@pytest.mark.parametrize("page", [DOCKER, KUBERNETES])
def test_commands_within_a_container_are_the_programs(page: str) -> None:
    known = {" ".join(path) for path in _paths(typer.main.get_command(app))}
    said = re.findall(r"(?:--|exec weighbridge|exec scaled) weighbridge ([a-z]+(?: [a-z]+)?)", text_of(page))
    said += re.findall(r"run --rm scaled ([a-z]+ [a-z]+)|weighbridge ((?:db|store) [a-z]+)", text_of(page))
    words = {word for each in said for word in ([each] if isinstance(each, str) else each) if word}
    assert len(words) >= 4
    assert {word for word in words if word not in known and word.split()[0] not in known} == set()


def _paths(command: object, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    below = getattr(command, "commands", {})
    return [path] if not below else [each for name, sub in below.items() for each in _paths(sub, (*path, name))]


def test_what_kubectl_is_asked_for_is_what_the_chart_makes() -> None:
    """Pods, their container, the claim, the Service, by the names that release and namespace of the page give them."""
    text = text_of(KUBERNETES)
    stateful = chart.the("alone", "StatefulSet")
    (container,) = stateful["spec"]["template"]["spec"]["containers"]
    (claim,) = stateful["spec"]["volumeClaimTemplates"]
    name = stateful["metadata"]["name"]
    assert set(re.findall(r"exec (\S+) --container (\S+)", text)) == {(f"{name}-0", container["name"])}
    assert set(re.findall(r"claimName: ([\w-]+)", text)) == {f"{claim['metadata']['name']}-{name}-0"}
    assert f"http://{name}.gateway:{chart.the('alone', 'Service')['spec']['ports'][0]['port']}" in text
    assert chart.the("alone", "Service", f"{name}-headless")["metadata"]["name"] in text
    assert f"images.example/weighbridge:{__version__}" in text


def test_the_pod_that_moves_is_one_that_the_volume_and_the_secret_are_for() -> None:
    (move,) = [each for each in map(yaml.safe_load, _blocks(KUBERNETES, "yaml")) if each.get("kind") == "Pod"]
    spec, serving = move["spec"], chart.pod("scaled")
    security = serving["securityContext"]
    assert spec["securityContext"].items() <= security.items()
    served = {mount["mountPath"]: mount for mount in serving["containers"][0]["volumeMounts"]}
    for mount in spec["containers"][0]["volumeMounts"]:
        assert mount == served[mount["mountPath"]]
    (secret,) = [volume["secret"] for volume in spec["volumes"] if "secret" in volume]
    assert [volume["secret"] for volume in serving["volumes"] if "secret" in volume] == [secret]


def test_the_ingress_leads_to_the_services_port() -> None:
    (ingress,) = [each for each in map(yaml.safe_load, _blocks(KUBERNETES, "yaml")) if each.get("kind") == "Ingress"]
    (path,) = ingress["spec"]["rules"][0]["http"]["paths"]
    service = chart.the("alone", "Service")
    assert path["backend"]["service"] == {
        "name": service["metadata"]["name"],
        "port": {"name": service["spec"]["ports"][0]["name"]},
    }


@pytest.mark.programs("helm")
def test_values_on_the_page_are_taken(tmp_path: Path) -> None:
    (values,) = [block for block in _blocks(KUBERNETES, "yaml") if "replicaCount" in block]
    (install,) = [command for command in _commands(KUBERNETES, "helm") if "--install" in command]
    (tmp_path / "values.yaml").write_text(values)
    given = re.findall(r"--set (\S+)", install)
    sets = [word for value in given for word in ("--set", value)]
    made = chart.template("--values", str(tmp_path / "values.yaml"), *sets)
    assert "replicas: 3" in made
