"""The Helm chart: what it renders fits together, fits the image and the program, and lets nothing in that it need not.

Most is asked of what `make chart` rendered and kept. Where helm is found, that is rendered anew, and bad values tried.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy import __version__
from proxy.config.load import Loaded, read
from proxy.errors import Reason
from tests.deploy import chart, chart_schema
from tests.deploy.chart import CHART, EXAMPLES, SECRETS, Manifest
from tests.deploy.contained import Contained
from tests.deploy.image import stages

each_example = pytest.mark.parametrize("example", EXAMPLES)


def _values() -> dict[str, Any]:
    values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    assert isinstance(values, dict)
    return values


def _names(schema: dict[str, Any], values: dict[str, Any], at: str = "") -> Iterator[str]:
    """The names of values that the schema knows; those of free tables aren't asked for."""
    for name, each in schema.get("properties", {}).items():
        yield f"{at}{name}"
        if at == "" and name == "config":
            continue
        if "properties" in each:
            yield from _names(each, values.get(name, {}), f"{at}{name}.")


def _written(values: dict[str, Any], schema: dict[str, Any], at: str = "") -> Iterator[str]:
    for name, each in values.items():
        yield f"{at}{name}"
        below = schema["properties"].get(name, {})
        if isinstance(each, dict) and "properties" in below and name != "config":
            yield from _written(each, below, f"{at}{name}.")


def test_the_chart_is_of_this_version() -> None:
    about = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    assert (about["version"], about["appVersion"]) == (__version__, __version__)


def test_the_schema_of_config_is_that_of_the_program() -> None:
    """Else: make chart."""
    assert chart_schema.written()["properties"]["config"] == chart_schema.config()


def test_every_value_has_a_schema_and_every_schema_a_value() -> None:
    schema = chart_schema.written()
    assert set(_names(schema, _values())) - {"global"} == set(_written(_values(), schema))


def test_templates_ask_for_values_that_there_are() -> None:
    """A typo would be rendered as nothing."""
    known = set(_written(_values(), chart_schema.written()))
    known |= {f"config.{section}" for section in chart_schema.config()["properties"]}
    asked = set()
    for template in (CHART / "templates").rglob("*.*"):
        asked |= set(re.findall(r"\.Values\.([A-Za-z.]*[A-Za-z])", template.read_text("utf-8")))
    assert asked <= known
    assert {name for name in known if name.count(".") == 0} <= {name.partition(".")[0] for name in asked}


@each_example
def test_what_is_kept_was_rendered_from_the_chart_as_it_is(example: str) -> None:
    """Else: make chart."""
    assert chart.kept(example)[0] == chart.stamp(example)


@pytest.fixture(params=EXAMPLES)
def loaded(request: pytest.FixtureRequest, tmp_path: Path) -> Loaded:
    """The rendered weighbridge.toml, as the program reads it beside the image's environment."""
    return _load(request.param, tmp_path)


def _load(example: str, folder: Path) -> Loaded:
    file, text = folder / "weighbridge.toml", chart.configuration(example)
    for name in re.findall(rf"{SECRETS}/([\w-]+)", text):
        (folder / name).write_text("a-secret-of-nobody")
        (folder / name).chmod(0o440)
    file.write_text(text.replace(SECRETS, str(folder)))
    return read(file, stages()[-1].environment)


def test_the_configuration_is_one_that_the_program_takes(loaded: Loaded) -> None:
    assert loaded.warnings == ()
    assert loaded.settings.upstreams[0].name == "google"


def test_settings_arrive_as_they_were_written(tmp_path: Path) -> None:
    """Numbers, lists, tables in tables, and what stands in extraToml."""
    settings = _load("scaled", tmp_path).settings
    assert (settings.server.workers, settings.server.lame_duck_seconds) == (2, 15)
    assert settings.server.trusted_proxies == ("10.0.0.0/8",)
    assert settings.storage.redis_url == "redis://redis.databases:6379/0"
    assert settings.storage.database_password is not None
    assert [upstream.priority for upstream in settings.upstreams] == [0, 1]
    limits = tomllib.loads(chart.configuration("scaled"))["upstreams"][0]["limits"]
    assert limits == {
        "rpm": 1000,
        "tpm": 4_000_000,
        "usd_per_10min": 12.5,
        "gemini-3-pro-image*": {"rpm": 100, "ipm": 20},
    }
    assert settings.models[0].use == "gemini-nano-banana-2.1"
    assert str(settings.prices[0].output_image) == "100.00"


@each_example
def test_a_pod_may_do_nothing_that_it_need_not(example: str) -> None:
    """A number that isn't root's, no capability, nothing to write but a volume and /tmp, no token of the cluster's."""
    spec = chart.pod(example)
    user, _, group = stages()[-1].user.partition(":")
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert [spec["securityContext"][name] for name in ("runAsUser", "runAsGroup", "fsGroup")] == [
        int(user),
        int(group),
        int(group),
    ]
    assert (spec["automountServiceAccountToken"], spec["enableServiceLinks"]) == (False, False)
    for container in (*spec["containers"], *spec.get("initContainers", ())):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        writable = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
        assert writable == {*stages()[-1].volumes, "/tmp"}


@each_example
def test_a_pod_is_what_the_image_is_made_for(example: str) -> None:
    """Its ports, its folders, its commands; and the claim that it mounts is made."""
    spec, image = chart.pod(example), stages()[-1]
    (container,) = spec["containers"]
    assert container["args"] == image.command
    assert [port["containerPort"] for port in container["ports"]] == image.ports
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts == {"data": image.volumes[0], "config": image.folder, "secrets": SECRETS, "tmp": "/tmp"}
    (claim,) = chart.the(example, "StatefulSet")["spec"]["volumeClaimTemplates"]
    assert {volume["name"] for volume in spec["volumes"]} | {claim["metadata"]["name"]} == mounts.keys()
    assert not claim["spec"]["accessModes"][0].endswith("Many")
    for init in spec.get("initContainers", ()):
        assert (init["image"], init["args"], init["volumeMounts"]) == (
            container["image"],
            ["db", "upgrade"],
            container["volumeMounts"],
        )


def test_the_schema_is_upgraded_before_a_pod_serves_where_there_is_a_database() -> None:
    assert "initContainers" not in chart.pod("alone")
    assert [init["name"] for init in chart.pod("scaled")["initContainers"]] == ["db-upgrade"]


def test_a_pod_is_given_longer_to_go_than_its_calls_may_take(loaded: Loaded, request: pytest.FixtureRequest) -> None:
    spec, server = chart.pod(request.node.callspec.params["loaded"]), loaded.settings.server
    (command,) = [container["lifecycle"]["preStop"]["exec"]["command"] for container in spec["containers"]]
    assert command[0] == "sleep"
    takes = float(command[1]) + server.lame_duck_seconds + server.drain_seconds
    assert spec["terminationGracePeriodSeconds"] > takes


@each_example
def test_secrets_are_the_operators_and_are_named_only(example: str) -> None:
    """The chart makes no Secret; files are for the pod's group, and a variable refers to one that may be missing."""
    assert [each for each in chart.manifests(example) if each["kind"] == "Secret"] == []
    spec = chart.pod(example)
    (secret,) = [volume["secret"] for volume in spec["volumes"] if volume["name"] == "secrets"]
    assert secret == {"secretName": "weighbridge", "defaultMode": 0o440}
    (token,) = spec["containers"][0]["env"]
    assert token["name"] == "WEIGHBRIDGE_ADMIN_TOKEN"
    assert token["valueFrom"]["secretKeyRef"] == {"name": "weighbridge", "key": "admin-token", "optional": True}


def _selectors(example: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Everything that chooses pods, and by which labels."""
    for manifest in chart.manifests(example):
        spec, kind = manifest.get("spec", {}), manifest["kind"]
        if kind == "Service":
            yield f"{kind} {manifest['metadata']['name']}", spec["selector"]
        elif kind in ("StatefulSet", "PodDisruptionBudget"):
            yield kind, spec["selector"]["matchLabels"]
        elif kind == "NetworkPolicy":
            yield kind, spec["podSelector"]["matchLabels"]
    for constraint in chart.pod(example)["topologySpreadConstraints"]:
        yield constraint["topologyKey"], constraint["labelSelector"]["matchLabels"]


@each_example
def test_whatever_chooses_pods_chooses_those_that_serve_and_not_the_test(example: str) -> None:
    labels = chart.the(example, "StatefulSet")["spec"]["template"]["metadata"]["labels"]
    tester = chart.the(example, "Pod", "weighbridge-test")["metadata"]["labels"]
    selectors = dict(_selectors(example))
    assert len(selectors) == 7
    for what, selector in selectors.items():
        assert selector.items() <= labels.items(), what
        assert not selector.items() <= tester.items(), what


@each_example
def test_services_lead_to_ports_that_a_pod_has(example: str) -> None:
    """The one for clients to the gateway door alone; the headless one is the StatefulSet's, and has pods that drain."""
    ports = {port["name"]: port["containerPort"] for port in chart.pod(example)["containers"][0]["ports"]}
    clients, each_pod = chart.the(example, "Service"), chart.the(example, "Service", "weighbridge-headless")
    assert [port["targetPort"] for port in clients["spec"]["ports"]] == ["gateway"]
    assert {port["targetPort"]: port["port"] for port in each_pod["spec"]["ports"]} == ports
    assert (each_pod["spec"]["clusterIP"], each_pod["spec"]["publishNotReadyAddresses"]) == ("None", True)
    assert chart.the(example, "StatefulSet")["spec"]["serviceName"] == "weighbridge-headless"


def _of_test(example: str) -> dict[str, str]:
    """The labels by which the pod of `helm test` is known."""
    labels = chart.the(example, "Pod", "weighbridge-test")["metadata"]["labels"]
    return {name: labels[name] for name in ("app.kubernetes.io/name", "app.kubernetes.io/instance")}


def test_nobody_comes_to_the_control_door_who_was_not_named() -> None:
    alone, scaled = (chart.the(example, "NetworkPolicy")["spec"] for example in ("alone", "scaled"))
    assert alone == {
        "podSelector": alone["podSelector"],
        "policyTypes": ["Ingress"],
        "ingress": [{"ports": [{"port": "gateway"}]}],
    }
    tester = {"podSelector": {"matchLabels": _of_test("scaled")}}
    assert scaled["ingress"][0]["from"] == [{"ipBlock": {"cidr": "10.0.0.0/8"}}, tester]
    (control,) = [rule for rule in scaled["ingress"] if rule["ports"] == [{"port": "control"}]]
    named = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    assert control["from"] == [named]


def test_who_may_go_to_named_places_only_may_ask_a_name_server() -> None:
    scaled = chart.the("scaled", "NetworkPolicy")["spec"]
    assert scaled["policyTypes"] == ["Ingress", "Egress"]
    assert scaled["egress"][0] == {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}
    assert {port["port"] for rule in scaled["egress"][1:] for port in rule["ports"]} == {443, 5432, 6379}


def test_prometheus_is_led_to_each_pods_control_door_under_the_job_that_rules_look_for() -> None:
    monitor = chart.the("scaled", "ServiceMonitor")["spec"]
    labels = chart.the("scaled", "Service", "weighbridge-headless")["metadata"]["labels"]
    assert monitor["selector"]["matchLabels"].items() <= labels.items()
    assert (
        not monitor["selector"]["matchLabels"].items() <= chart.the("scaled", "Service")["metadata"]["labels"].items()
    )
    assert labels[monitor["jobLabel"]] == "weighbridge"
    assert [(endpoint["port"], endpoint["path"]) for endpoint in monitor["endpoints"]] == [("control", "/metrics")]


def _get(served: Contained, url: str) -> str:
    """The status that a GET in the container's network is answered with."""
    asked = served.run(
        *("python", "-I", "-c"),
        "import sys, urllib.error, urllib.request as r\n"
        "try:\n print(r.urlopen(sys.argv[1], timeout=30).status)\nexcept urllib.error.HTTPError as e:\n print(e.code)",
        url,
    )
    return asked.stdout.strip() or asked.stderr


def test_every_probe_is_answered_by_the_server(served: Contained) -> None:
    """Path, port and scheme of each probe of a pod, asked of what the image starts with the chart's configuration."""
    (container,) = chart.pod("alone")["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        asked = container[probe]["httpGet"]
        url = f"{asked.get('scheme', 'HTTP').lower()}://127.0.0.1:{ports[asked['port']]}{asked['path']}"
        assert _get(served, url) == "200", probe
    monitor = chart.the("scaled", "ServiceMonitor")["spec"]["endpoints"][0]
    assert _get(served, f"http://127.0.0.1:{ports[monitor['port']]}{monitor['path']}") == "200"


def test_helm_test_passes_before_a_server_and_fails_before_none(served: Contained) -> None:
    tester: Manifest = chart.the("alone", "Pod", "weighbridge-test")
    (container,) = tester["spec"]["containers"]
    (base_url,) = [variable["value"] for variable in container["env"]]
    assert base_url == f"http://weighbridge:{stages()[-1].ports[0]}"
    command = [*container["command"], *container["args"]]
    said = served.run(*command, environment={"BASE_URL": "http://127.0.0.1:8080"})
    assert (said.returncode, said.stdout.count("\n")) == (0, 1), said.stderr
    assert served.run(*command, environment={"BASE_URL": "http://127.0.0.1:8082"}).returncode != 0
    assert Reason.API_KEY_MISSING.word in container["args"][0]


@pytest.mark.programs("helm")
@each_example
def test_helm_renders_what_is_kept_and_finds_nothing_wrong(example: str) -> None:
    assert chart.render(example) == chart.kept(example)[1]
    chart.helm("lint", "--strict", str(CHART), "--values", str(EXAMPLES[example]))


BAD_VALUES = {
    "existingSecret=": "existingSecret",
    "existingSecret=Not A Name": "existingSecret",
    "replicaCount=-1": "replicaCount",
    "replicaCount=2": "config.storage.redis_url is not set",
    "replica=2": "replica",
    "image.digest=latest": "digest",
    "image.pullPolicy=Sometimes": "pullPolicy",
    "persistence.accessModes[0]=ReadWriteMany": "accessModes",
    "persistence.size=10": "size",
    "service.port=0": "port",
    "service.type=ExternalName": "type",
    "config.sever.workers=2": "sever",
    "config.server.worker=2": "worker",
    "config.server.workers=many": "workers",
    "config.server.workers=2": "config.storage.redis_url is not set",
    "config.server.tls_cert=/run/secrets/weighbridge/tls.crt": "tls_key",
    "config.server.tls_key=/run/secrets/weighbridge/tls.key": "tls_cert",
    "config.server.port=9000": "port",
    "config.server.drain_seconds=-1": "drain_seconds",
    "config.storage.data_dir=/data": "data_dir",
    "config.storage.database_password=hunter2": "database_password",
    "config.upstreams[0].api_key=secret": "api_key",
    "config.limits.hold=most": "hold",
    "networkPolicy.gatewayFrom=all": "gatewayFrom",
    "serviceMonitor.interval=often": "interval",
}


@pytest.mark.programs("helm")
@pytest.mark.parametrize(("bad", "names"), BAD_VALUES.items())
def test_bad_values_are_refused_and_named(bad: str, names: str) -> None:
    """Before anything is sent to a cluster."""
    with pytest.raises(chart.HelmRefused, match=re.escape(names)):
        chart.template("--set", "existingSecret=weighbridge", "--set", bad)


@pytest.mark.programs("helm")
def test_text_and_numbers_of_every_kind_survive_the_way_into_toml(tmp_path: Path) -> None:
    odd = 'a "quote", a \\, a <tag> & é\n\ttab {{ brace }} # $'
    limits = {"rpm": 1_000_000_000_000, "usd_per_10min": 0.1, odd: {"ipm": 0}}
    upstream = {"name": "one", "base_url": odd, "models": [odd, "*"], "weight": 3, "limits": limits}
    config = {
        "server": {"max_body_mb": 4, "drain_seconds": 0.5},
        "images": {"fetch_urls": True},
        "upstreams": [upstream],
    }
    values = tmp_path / "values.yaml"
    values.write_text(json.dumps({"existingSecret": "weighbridge", "config": config}))
    made = list(yaml.safe_load_all(chart.template("--values", str(values))))
    (text,) = [each["data"]["weighbridge.toml"] for each in made if each["kind"] == "ConfigMap"]
    assert tomllib.loads(text) == config


@pytest.mark.programs("helm")
def test_a_pod_starts_anew_for_what_waits_for_a_start_and_for_nothing_else() -> None:
    def checksum(*values: str) -> str:
        given = [word for value in values for word in ("--set", value)]
        made = yaml.safe_load_all(chart.template("--set", "existingSecret=weighbridge", *given))
        (found,) = [each for each in made if each["kind"] == "StatefulSet"]
        return str(found["spec"]["template"]["metadata"]["annotations"]["checksum/config"])

    as_it_is = checksum()
    for waits in ("config.storage.retention_days=40", "config.limits.on_redis_down=deny", "config.logs.format=people"):
        assert checksum(waits) != as_it_is
    for taken in (
        "config.server.max_body_mb=50",
        "config.limits.hold=worst",
        "config.gateway.unpriced_models=refuse",
        "config.logs.access=false",
        "config.tracing.otlp_endpoint=http://collector:4318",
    ):
        assert checksum(taken) == as_it_is


@pytest.mark.programs("helm")
def test_prometheus_rules_are_those_of_the_repository() -> None:
    """Word for word, but for where the runbooks are read."""
    given = (
        "existingSecret=weighbridge",
        "prometheusRule.enabled=true",
        "prometheusRule.runbooks=https://wiki.example/",
    )
    made = yaml.safe_load_all(chart.template(*(word for value in given for word in ("--set", value))))
    (rules,) = [each["spec"] for each in made if each["kind"] == "PrometheusRule"]
    text = (CHART.parent.parent / "prometheus" / "alerts.yml").read_text("utf-8")
    assert rules == yaml.safe_load(text.replace("{{ $externalLabels.runbooks }}", "https://wiki.example/"))
