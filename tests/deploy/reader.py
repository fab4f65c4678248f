"""Who follows docs/deploy/bare-metal.md on a machine of their own: types its blocks, one after another."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.deploy.machine import OUTSIDE, Machine
from tests.docs.blocks import blocks_of_page
from tests.pages import ROOT

PAGE = ROOT / "docs" / "deploy" / "bare-metal.md"
BLOCKS = [block for block in blocks_of_page(PAGE) if block.language == "sh" and not block.mark.startswith("given")]
GIVEN = {"GEMINI_API_KEY": "the-key-of-the-emulator", "DOMAIN": "gemini.example.com"}
"""What a reader fills in, in the place of the page's first block."""
REACHES_OUT = f'deploy/install() {{ {OUTSIDE} deploy/install "$@"; }}'
"""The page's one command that fetches something, apt aside."""
SHELL = "/root/shell"
SLOW = "[[delay=3]] slowly"
"""A prompt of a call that is in flight while the server is restarted."""

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
    """`printed` is what each block printed, by the line where it stands."""

    machine: Machine
    printed: dict[int, str] = field(default_factory=dict)

    def prepare(self) -> None:
        """What is other than on a reader's machine: apt, the network's address, and a lame duck that is soon over."""
        apt = self.machine.path("/usr/local/sbin/apt-get")
        apt.write_text(APT)
        apt.chmod(0o755)
        self.machine.run("ip address add 10.0.0.1/24 dev lo; install -d -m 755 /etc/weighbridge")
        self.machine.path("/etc/weighbridge/environment").write_text("WEIGHBRIDGE_SERVER__LAME_DUCK_SECONDS=1\n")

    def follow(self) -> None:
        """Types every block of the page. A call is in flight where the server is restarted for the first time."""
        restarts = next(block for block in BLOCKS if "systemctl restart weighbridge" in block.text)
        for block in BLOCKS:
            if block is restarts:
                self.call_slowly()
            self.printed[block.line] = self.type(block.text)

    def type(self, text: str) -> str:
        """Runs a script with the variables of those before it, and keeps its own: it is all one shell."""
        before = f"[ ! -e {SHELL} ] || . {SHELL}\n{REACHES_OUT}\nset -a\n"
        return self.machine.run(f"{before}{text}\nset +a\nexport -p > {SHELL}", env=GIVEN)

    def call(self, prompt: str = "hello", more: str = "") -> str:
        """curl's command for a call with the key that the page has made."""
        return (
            "curl -sS --fail --max-time 60 http://127.0.0.1:8080/v1beta/models/gemini-3.8-flash:generateContent "
            f"-H \"x-goog-api-key: $KEY\" -H 'Content-Type: application/json' {more} "
            f'-d \'{{"contents": [{{"parts": [{{"text": "{prompt}"}}]}}]}}\''
        )

    def call_slowly(self) -> None:
        """Begins a call, and comes back when the server has it."""
        begun = "curl -sS http://127.0.0.1:8081/metrics | grep -q '^weighbridge_in_flight_requests.* 1'"
        self.type(f"{self.call(SLOW)} --output /root/slow &\nuntil {begun}; do sleep 0.1; done")

    def ready(self) -> str:
        """The command that waits until the server serves."""
        return "curl -sS --fail --retry 30 --retry-all-errors --retry-delay 1 http://127.0.0.1:8080/readyz"

    def what(self, command: str) -> str:
        """What the block printed that has this command in it."""
        found = [self.printed[block.line] for block in BLOCKS if command in block.text]
        assert len(found) == 1, f"{command}: {len(found)} blocks"
        return found[0]
