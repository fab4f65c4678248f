"""Every block of TOML in the documentation is a configuration that the program takes, whole, without a warning."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from proxy.config.load import read
from tests.certificates import Certificate, make_certificate
from tests.docs.blocks import Block
from tests.docs.not_run import to_run

PASSWORD = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
"""A secret that is fit for anything, a webhook too."""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.mark.parametrize("block", to_run("toml"), ids=lambda block: block.where)
def test_a_block_of_toml_is_a_configuration(block: Block, certificate: Certificate, tmp_path: Path) -> None:
    """Taken by the server's own loader, where the variables and files are there that it names."""
    variables = dict.fromkeys(re.findall(r'_env = "(\w+)"', block.text), PASSWORD)
    file = tmp_path / "weighbridge.toml"
    file.write_text(with_files(block.text, tmp_path, certificate))
    assert read(file, {"GEMINI_API_KEY": PASSWORD, **variables}).warnings == ()


def with_files(text: str, folder: Path, certificate: Certificate) -> str:
    """The same, with files that are there, and for nobody else's eyes."""
    for number, name in enumerate(re.findall(r"/(?:run|etc)/[\w/.-]+", text)):
        there = folder / f"{number}-{Path(name).name}"
        if there.suffix in (".pem", ".crt", ".key"):
            shutil.copy(certificate.path, there)
        else:
            there.write_text(PASSWORD)
        there.chmod(0o600)
        text = text.replace(name, str(there))
    return text
