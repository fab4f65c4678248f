"""The Helm chart: rendered with each of the examples, which is kept, to be looked at where there is no helm.

`python -m tests.deploy.chart` (`make chart`) checks the chart and writes what it renders anew.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.deploy import chart_schema
from tests.pages import ROOT

CHART = ROOT / "deploy" / "helm" / "weighbridge"
EXAMPLES = {path.stem: path for path in sorted((ROOT / "deploy" / "helm" / "examples").glob("*.yaml"))}
RENDERED = Path(__file__).parent / "rendered"
KUBERNETES = "1.34"
"""The version to render for: a helm that `go install` made takes another for the one that is there."""
SECRETS = "/run/secrets/weighbridge"
NOT_RENDERED = ("alerts.yml", "values.schema.json")
"""Left out of what is kept: Prometheus's rules, a link to their file; and what values may be, which changes nothing."""

Manifest = dict[str, Any]


class HelmRefused(Exception):
    """What helm says of values or of a chart that it doesn't take."""


def helm(*arguments: str) -> str:
    """What helm prints. Raises HelmRefused."""
    done = subprocess.run(["helm", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise HelmRefused(done.stderr + done.stdout)
    return done.stdout


def template(*arguments: str) -> str:
    """The chart's manifests, as release `weighbridge` in namespace `gateway`."""
    release = ("weighbridge", str(CHART), "--namespace", "gateway", "--kube-version", KUBERNETES)
    return helm("template", *release, *arguments)


def render(example: str) -> str:
    return template("--values", str(EXAMPLES[example]), "--set", "prometheusRule.enabled=false")


def stamp(example: str) -> str:
    """What a rendered example is made of, as a digest."""
    files = [path for path in sorted(CHART.rglob("*")) if path.is_file() and path.name not in NOT_RENDERED]
    digest = hashlib.sha256()
    for path in (*files, EXAMPLES[example]):
        digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def kept(example: str) -> tuple[str, str]:
    """The digest of what it was made of, and what was rendered then."""
    first, _, text = (RENDERED / f"{example}.yaml").read_text("utf-8").partition("\n")
    return first.removeprefix("# make chart, of "), text


def manifests(example: str) -> list[Manifest]:
    return [manifest for manifest in yaml.safe_load_all(kept(example)[1]) if manifest]


def the(example: str, kind: str, name: str = "weighbridge") -> Manifest:
    """The manifest of this kind and name."""
    (found,) = [each for each in manifests(example) if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


def pod(example: str) -> Manifest:
    """The spec of the pods that serve."""
    spec = the(example, "StatefulSet")["spec"]["template"]["spec"]
    assert isinstance(spec, dict)
    return spec


def configuration(example: str) -> str:
    """The weighbridge.toml that the pods are given."""
    return str(the(example, "ConfigMap")["data"]["weighbridge.toml"])


def main() -> str | None:
    """What is wrong, if anything is."""
    schema = chart_schema.written()
    schema["properties"]["config"] = chart_schema.config()
    chart_schema.FILE.write_text(json.dumps(schema, indent=2) + "\n", "utf-8")
    if shutil.which("helm") is None:
        return "helm isn't here, so nothing was rendered. With Go: go install helm.sh/helm/v3/cmd/helm@v3.21.3"
    RENDERED.mkdir(exist_ok=True)
    try:
        for name, values in EXAMPLES.items():
            print(helm("lint", "--strict", str(CHART), "--values", str(values)).strip())
            (RENDERED / f"{name}.yaml").write_text(f"# make chart, of {stamp(name)}\n{render(name)}", "utf-8")
    except HelmRefused as refused:
        return str(refused)
    return None


if __name__ == "__main__":
    sys.exit(main())
