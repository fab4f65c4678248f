"""docs/deploy/bare-metal.md, followed to the letter on a machine of its own, which has a real systemd."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import pytest

from tests.deploy.machine import Machine
from tests.docs.blocks import Block, blocks_of_page
from tests.pages import ROOT

PAGE = ROOT / "docs" / "deploy" / "bare-metal.md"
BLOCKS = [block for block in blocks_of_page(PAGE) if block.language == "sh" and not block.mark.startswith("given")]
GIVEN = {"GEMINI_API_KEY": "the-key-of-the-emulator", "DOMAIN": "gemini.example.com"}
"""What a reader fills in, and the names by which the page begins."""
REACH_OUT = ("deploy/install",)
"""Commands that fetch something: blocks with one of them run with the network of the machine that tests run on."""
STATE = "/root/shell"

APT = r"""#!/bin/sh
# In the place of apt-get, which would fetch what scripts/test-tools has: does what packages do when they are installed.
[ "$1" = install ] || exit 0
shift
for package; do
    case $package in -*) continue;; esac
    dpkg-query --show --showformat='${db:Status-Status}' "$package" | grep -qx installed || exit 100
done
pg_createcluster "$(ls /usr/lib/postgresql | sort -V | tail -1)" main >/dev/null && systemctl daemon-reload
"""


@dataclass
class Reader:
    """Types the page's blocks into one shell, and keeps what each printed."""

    machine: Machine
    printed: dict[int, str] = field(default_factory=dict)

    def type(self, text: str, **options: bool) -> str:
        """Runs a script with the variables of those before it, and keeps its own."""
        before = f"[ ! -e {STATE} ] || . {STATE}\nset -a\n"
        return self.machine.run(f"{before}{text}\nset +a\nexport -p > {STATE}", env=GIVEN, **options)

    def follow(self, block: Block) -> None:
        began = time.monotonic()
        self.printed[block.line] = self.type(block.text, network=any(word in block.text for word in REACH_OUT))
        print(block.where, round(time.monotonic() - began, 1), "s")

    def what(self, command: str) -> str:
        """What the block printed that has this command in it."""
        found = [self.printed[block.line] for block in BLOCKS if command in block.text]
        assert len(found) == 1, f"{command}: {len(found)} blocks"
        return found[0]


@pytest.fixture(scope="module")
def reader(own_machine: Machine) -> Reader:
    """Who has followed the whole page."""
    apt = own_machine.path("/usr/local/sbin/apt-get")
    apt.write_text(APT)
    apt.chmod(0o755)
    reader = Reader(own_machine)
    for block in BLOCKS:
        reader.follow(block)
    return reader


def test_the_page_is_followed(reader: Reader) -> None:
    for line, said in reader.printed.items():
        print(line, said)
