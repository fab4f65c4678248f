"""Every example in JSON, Python, JavaScript and PromQL: read as its language has it, and run against a server."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from tests.docs.blocks import Block
from tests.docs.not_run import to_run
from tests.journeys.watching import refuses, until
from tests.redis_servers import free_port
from tests.sdk.node import NODE, modules
from tests.stand import Weighbridge

BASE_URL = re.compile(r"http://127\.0\.0\.1:8080|https://weighbridge\.example(?:\.com)?")
"""Where the examples have their Weighbridge."""
ABOVE = {
    ("docs/errors.md", "python"): """from google import genai
client = genai.Client(api_key="wb_unknown", http_options={"base_url": "http://127.0.0.1:8080"})
""",
    ("docs/errors.md", "javascript"): """import { GoogleGenAI } from "@google/genai";
const ai = new GoogleGenAI({ apiKey: "wb_unknown", httpOptions: { baseUrl: "http://127.0.0.1:8080" } });
""",
    ("docs/limits.md", "python"): "from google import genai\n",
    ("docs/limits.md", "javascript"): 'import { GoogleGenAI } from "@google/genai";\n',
    ("docs/openai-images.md", "python"): 'import openai\nKEY = "wb_…"\n',
}
"""What the examples of a page are parts of: the program above them."""
PRINTS = {
    "README.md": "What is a weighbridge?",
    "docs/quickstart.md": "What is a weighbridge?",
    "docs/errors.md": "API key not valid",
    "docs/openai-images.md": "'output_image': '30'",
}
"""Words that each page's examples print: what the emulator answers says the prompt again."""
IN_TURN = "import runpy, sys\nfor path in sys.argv[1:]:\n    print(path)\n    runpy.run_path(path)\n"
"""One process for all: an SDK takes a second to be imported."""
THE_EMULATOR = [block for block in to_run("python") if "uvicorn.run" in block.text]
EXAMPLES = [block for block in to_run("python") if block not in THE_EMULATOR]


@pytest.mark.parametrize("block", to_run("json"), ids=lambda block: block.where)
def test_json_is_json(block: Block) -> None:
    json.loads(block.text)


def saved(blocks: list[Block], folder: Path, ending: str, stand: Weighbridge) -> list[Path]:
    """Each in a file, with the key and the address that it is to have, and the program that it is a part of."""
    files, key = [], stand.key()
    for number, block in enumerate(blocks):
        whole = ABOVE.get((block.page, block.language), "") + block.text
        files.append(folder / f"{number}.{ending}")
        files[-1].write_text(BASE_URL.sub(stand.base_url, whole.replace("wb_…", key)))
    return files


def environment(stand: Weighbridge) -> dict[str, str]:
    return {**os.environ, "GEMINI_API_KEY": "for-what-is-only-made", "PYTHONPATH": ""}


def test_python_does_what_its_page_says(stand: Weighbridge, tmp_path: Path) -> None:
    """Each example runs to its end, and one of each page prints what that says."""
    files = saved(EXAMPLES, tmp_path, "py", stand)
    command = [sys.executable, "-c", IN_TURN, *map(str, files)]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment(stand), timeout=120)
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"
    printed = re.split(r"^/.*\.py$", ran.stdout, flags=re.M)[1:]
    for page in {block.page for block in EXAMPLES}:
        of_page = "".join(said for block, said in zip(EXAMPLES, printed, strict=True) if block.page == page)
        assert PRINTS.get(page, "") in of_page, f"{page}: {of_page}"


@pytest.mark.parametrize("block", to_run("javascript"), ids=lambda block: block.where)
def test_javascript_does_what_its_page_says(block: Block, stand: Weighbridge, tmp_path: Path) -> None:
    """Each example runs to its end, and prints what its page says."""
    (tmp_path / "node_modules").symlink_to(modules())
    (file,) = saved([block], tmp_path, "mjs", stand)
    ran = subprocess.run([NODE, file], capture_output=True, text=True, env=environment(stand), timeout=120)
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"
    assert PRINTS.get(block.page, "") in ran.stdout


@pytest.mark.parametrize("block", THE_EMULATOR, ids=lambda block: block.where)
def test_the_emulator_serves_as_its_page_has_it(block: Block, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{(port := free_port())}"
    with subprocess.Popen(
        [sys.executable, "-c", block.text.replace("8090", str(port))], stderr=subprocess.DEVNULL
    ) as serving:
        until(lambda: not refuses(url) or serving.poll() is not None, "it serves")
        models = httpx2.get(f"{url}/v1beta/models", headers={"x-goog-api-key": "emulator-key"})
        serving.send_signal(signal.SIGTERM)
    assert models.json()["models"]


@pytest.mark.programs("promtool")
@pytest.mark.parametrize("block", to_run("promql"), ids=lambda block: block.where)
def test_promql_is_promql(block: Block, tmp_path: Path) -> None:
    """Prometheus' own parser takes each line, as the expression of a rule."""
    queries = [line for line in block.text.splitlines() if line.strip()]
    rules = [{"record": f"line:{number}", "expr": query} for number, query in enumerate(queries)]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "page", "rules": rules}]}))
    ran = subprocess.run(["promtool", "check", "rules", file], capture_output=True, text=True)
    assert (ran.returncode, f"{len(queries)} rules found" in ran.stdout) == (0, True), ran.stdout + ran.stderr
