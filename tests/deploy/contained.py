"""A server as a container has it: the image's user, environment and command, a read-only root, a network of its own.

What is in the container is this checkout and the environment of the tests, mounted where the image has its own. Takes
root.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.deploy.image import stages
from tests.pages import ROOT

OF_THE_TESTS = {
    "PYTHONPATH": "/opt/weighbridge/lib:/opt/weighbridge/packages",
    "LD_LIBRARY_PATH": "/opt/weighbridge/base/lib",
}
"""Variables that lead to what is mounted; the image, whose environment is its own, has none of them."""
WEIGHBRIDGE = '#!/bin/sh\nexec python -P -m proxy "$@"\n'

PREPARE = """
mount --make-rprivate /
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work overlay /mnt/root
cd /mnt/root
mkdir -p opt/weighbridge/bin opt/weighbridge/lib/proxy opt/weighbridge/packages opt/weighbridge/base
mkdir -p etc/weighbridge var/lib/weighbridge
printf '%s' "$command" > opt/weighbridge/bin/weighbridge
chmod +x opt/weighbridge/bin/weighbridge
ln -s "../base/$python" opt/weighbridge/bin/python
mount --bind "$base" opt/weighbridge/base
mount --bind "$checkout/proxy" opt/weighbridge/lib/proxy
mount --bind "$packages" opt/weighbridge/packages
mount --bind "$config" etc/weighbridge
mount --bind "$data" var/lib/weighbridge
mount --rbind /dev dev
mount --rbind /proc proc
mount -t tmpfs -o mode=1777 tmpfs tmp
mount -o remount,bind,ro etc/weighbridge
mount -o remount,bind,ro /mnt/root
ip link set lo up
exec chroot /mnt/root setpriv --reuid "$user" --regid "$group" --clear-groups --no-new-privs --bounding-set=-all \
    --inh-caps=-all env -i --chdir="$folder" "$@"
"""


def has_containers() -> bool:
    """This user may make one: on some machines even root may not."""
    if os.geteuid() != 0 or not (shutil.which("setpriv") and shutil.which("ip")):
        return False
    trial = ["unshare", "--mount", "--net", "mount", "--make-rprivate", "/"]
    return subprocess.run(trial, capture_output=True).returncode == 0


@dataclass
class Contained:
    """A container that runs. `run` puts another command into it, as `docker exec` does."""

    process: subprocess.Popen[str]
    environment: Mapping[str, str]

    def run(
        self, *command: str, user: str = "", environment: Mapping[str, str] = {}
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end, by the container's user or another."""
        number = user or stages()[-1].user
        uid, _, gid = number.partition(":")
        inside = ["nsenter", f"--target={self.process.pid}", "--mount", "--net", "--root"]
        become = [
            "setpriv",
            "--reuid",
            uid,
            "--regid",
            gid or uid,
            "--clear-groups",
            "env",
            "-i",
            f"--chdir={stages()[-1].folder}",
        ]
        given = [f"{name}={value}" for name, value in {**self.environment, **environment}.items()]
        return subprocess.run([*inside, *become, *given, *command], capture_output=True, text=True, timeout=60)

    def stop(self) -> int:
        """As `docker stop` does; how it ended."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextlib.contextmanager
def container(
    folder: Path, environment: Mapping[str, str], command: Sequence[str] = (), *, mode: int = 0o700, owner: int = 65532
) -> Iterator[Contained]:
    """Starts one. `folder` gets `data`, its volume, of this owner and mode; `config` may have a weighbridge.toml."""
    image = stages()[-1]
    uid, _, gid = image.user.partition(":")
    data, config = folder / "data", folder / "config"
    data.mkdir()
    os.chown(data, owner, int(gid))
    data.chmod(mode)
    config.mkdir(exist_ok=True)
    whole = {**image.environment, **OF_THE_TESTS, **environment}
    outside = {
        "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin",
        "checkout": str(ROOT),
        "packages": sysconfig.get_path("purelib"),
        "data": str(data),
        "config": str(config),
        "command": WEIGHBRIDGE,
        "base": sys.base_prefix,
        "python": str(Path(sys.executable).resolve().relative_to(Path(sys.base_prefix).resolve())),
        "user": uid,
        "group": gid,
        "folder": image.folder,
    }
    given = [f"{name}={value}" for name, value in whole.items()]
    wanted = [*given, *image.entrypoint, *(command or image.command)]
    unshare = ["unshare", "--mount", "--net", "--ipc", "sh", "-euc", PREPARE, "sh", *wanted]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(unshare, env=outside, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        yield Contained(process, whole)
    finally:
        process.kill()
        process.wait(30)
        assert process.stdout is not None
        process.stdout.close()
