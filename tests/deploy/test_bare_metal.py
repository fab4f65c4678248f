"""docs/deploy/bare-metal.md leads, on a machine with a real systemd, from nothing to calls on the bill of all nodes."""

from __future__ import annotations

import json
import re
import shlex

from tests.deploy.image import stages
from tests.deploy.reader import GIVEN, Reader

WORST_EXPOSURE = 15
"""What `systemd-analyze security` may find, in tenths: 0 is a service that can do nothing, 100 one that can do all."""
UNIT = "/etc/systemd/system/weighbridge.service"
COUNT = "SELECT count(*), count(DISTINCT file_id) FROM usage_records WHERE outcome = $$ok$$"


def recorded(reader: Reader) -> tuple[int, int]:
    """How many calls stand in PostgreSQL that ended well, and of how many workers."""
    said = reader.type(f"runuser -u postgres -- psql weighbridge --csv --tuples-only --command '{COUNT}'")
    calls, workers = map(int, said.split(","))
    return calls, workers


def test_the_page_leads_to_a_call_on_the_bill(reader: Reader) -> None:
    """doctor finds no problem, the model's answer comes, and the bill has it, by the command and in PostgreSQL."""
    assert re.search(r"^\d+ ok(, \d+ warnings?)?$", reader.what("weighbridge doctor").splitlines()[-1])
    assert '"candidates"' in reader.what("weighbridge usage report")
    # It is shipped within a second or two, and the page's own command may have been quicker.
    reader.type("until weighbridge usage report | grep gemini-3.8-flash; do sleep 0.2; done")
    assert "first,gemini-3.8-flash,ok," in reader.what("psql weighbridge --csv")


def test_the_command_is_configured_as_the_server_is(reader: Reader) -> None:
    """By the unit's file of variables too; what is typed before the command goes before both, and isn't lost."""
    shown = "weighbridge config show --json | tr -d ' '"
    assert '"lame_duck_seconds":1.0' in reader.type(shown)
    assert '"lame_duck_seconds":7.0' in reader.type(f"WEIGHBRIDGE_SERVER__LAME_DUCK_SECONDS=7 {shown}")
    typed = "WEIGHBRIDGE_STORAGE__DATA_DIR=/backup weighbridge ledger verify"
    assert "type this as root" in reader.type(f"! runuser -u nobody -- env {typed} 2>&1")


def test_the_page_leads_to_tls(reader: Reader) -> None:
    """nginx serves by the page's name and certificate."""
    said = reader.what("nginx -t")
    assert json.loads(said[said.index("{") :])["models"]


def test_a_restart_by_the_page_breaks_no_call_off(reader: Reader) -> None:
    """One was in flight for longer than the door stayed open."""
    assert "slowly" in reader.type("cat /root/slow")


def test_both_workers_serve_and_all_calls_are_in_postgresql(reader: Reader) -> None:
    calls, _ = recorded(reader)
    url = "http://127.0.0.1:8080/v1beta/models/gemini-3.8-flash:generateContent"
    more = f"--parallel --parallel-immediate --parallel-max 16 --output '/root/answer#1' '{url}#[1-32]'"
    reader.type(reader.call("[[delay=1]] many").replace(url, more))
    found = calls, 0
    for _ in range(30):
        found = recorded(reader)
        if found[0] == calls + 32:
            break
        reader.type("sleep 1")
    assert found == (calls + 32, 2)


def test_the_unit_is_sound_and_hardened(reader: Reader) -> None:
    """systemd has nothing to say against it, and finds little that it could do."""
    assert reader.machine.run(f"systemd-analyze verify --man=no {UNIT}") == ""
    reader.machine.run(f"systemd-analyze security --no-pager --offline=true --threshold={WORST_EXPOSURE} {UNIT}")


def test_the_server_is_kept_from_all_but_its_own_folder(reader: Reader) -> None:
    """Every process of it: no capability, no new privilege, system calls filtered, and nothing else to write to."""
    machine = reader.machine
    for pid in machine.run("cat /sys/fs/cgroup/system.slice/weighbridge.service/cgroup.procs").split():
        status = dict(
            line.split(":\t", 1) for line in machine.run(f"cat /proc/{pid}/status").splitlines() if ":\t" in line
        )
        assert int(status["CapBnd"], 16) == int(status["CapEff"], 16) == 0
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    inside = f"nsenter --target {pid} --mount --"
    mine = machine.run(f"{inside} sh -c 'for at in / /etc /opt/weighbridge /usr /var /var/lib/weighbridge; do "
        "touch $at/written 2>/dev/null && echo $at || true; done'")  # fmt: skip
    assert mine.split() == ["/var/lib/weighbridge"]


def test_a_new_google_key_is_taken_at_a_reload(reader: Reader) -> None:
    """Without a restart: the page says so."""
    old = reader.machine.run("systemctl show --property MainPID weighbridge")
    reader.machine.run("echo another > /etc/weighbridge/gemini-key; systemctl reload weighbridge")
    refused = reader.call().replace("--fail", "--retry 0 --output /dev/null --write-out '%{http_code}'")
    reader.type(f'until [ "$({refused})" = 502 ]; do sleep 0.2; done')
    reader.machine.run("echo the-key-of-the-emulator > /etc/weighbridge/gemini-key; systemctl reload weighbridge")
    reader.type(f"until {reader.call()}; do sleep 0.2; done")
    assert reader.machine.run("systemctl show --property MainPID weighbridge") == old


def test_a_server_that_is_killed_is_started_again(reader: Reader) -> None:
    """The supervisor dies; systemd ends what is left of it, and starts another one on the same folder."""
    old = reader.machine.run("systemctl show --property MainPID weighbridge")
    reader.machine.run("systemctl kill --signal=KILL --kill-whom=main weighbridge")
    reader.machine.run(
        "until systemctl show --property NRestarts --value weighbridge | grep -qv '^0$'; do sleep 0.2; done"
    )
    reader.machine.run(reader.ready())
    assert reader.machine.run("systemctl show --property MainPID weighbridge") != old
    assert '"candidates"' in reader.type(reader.call())


def test_prometheus_asks_the_control_door(reader: Reader) -> None:
    asked = "curl -sS 'http://127.0.0.1:9090/api/v1/query' --data-urlencode 'query=up{job=\"weighbridge\"}'"
    reader.machine.run(f"until {asked} | grep -q '\"1\"]'; do sleep 0.5; done")


def test_secrets_may_be_systemds_credentials(reader: Reader) -> None:
    """With deploy/systemd/credentials.conf, files that root alone reads are enough."""
    folder = "/etc/credstore/weighbridge"
    reader.machine.run(
        f"install -d -m 700 /etc/credstore {folder}; cd /etc/weighbridge\n"
        "for secret in gemini-key redis-password database-password\n"
        f"do install -m 600 $secret {folder}; rm $secret; done\n"
        "sed -i 's#/etc/weighbridge/gemini-key#/run/credentials/weighbridge.service/gemini-key#' weighbridge.toml\n"
        f"install -D -m 644 -t {UNIT}.d /srv/weighbridge/deploy/systemd/credentials.conf\n"
        f"systemctl daemon-reload; systemctl restart weighbridge; {reader.ready()}"
    )
    assert '"candidates"' in reader.type(reader.call())


def test_a_stop_ends_it_well(reader: Reader) -> None:
    reader.machine.run("systemctl stop weighbridge")
    assert reader.machine.run("systemctl show --property Result,ExecMainStatus --value weighbridge").split() == [
        "success",
        "0",
    ]


IMAGES_CONFIGURATION = """
[[upstreams]]
name = "emulator"
base_url = "http://127.0.0.1:8090"
api_key_env = "GEMINI_API_KEY"
"""


def as_the_image(reader: Reader, words: list[str]) -> list[str]:
    """What becomes the image's user, which has a number alone, in its folder and with its environment, and no other."""
    image = stages()[-1]
    user, _, group = image.user.partition(":")
    become = [
        "setpriv",
        f"--reuid={user}",
        f"--regid={group}",
        "--clear-groups",
        "--bounding-set=-all",
        "--inh-caps=-all",
    ]
    environment = {**image.environment, "GEMINI_API_KEY": GIVEN["GEMINI_API_KEY"]}
    given = [f"{name}={value}" for name, value in environment.items()]
    return [*become, "env", "-i", f"--chdir={image.folder}", *given, *words]


def container(reader: Reader) -> str:
    """Starts the image's command with a root that is to be read from, its volume, and a /tmp."""
    image = stages()[-1]
    version = reader.machine.run("readlink /opt/weighbridge/current").strip()
    properties = {
        "BindReadOnlyPaths": f"/opt/weighbridge/{version}:/opt/weighbridge /srv/configuration:{image.folder}",
        "BindPaths": f"/srv/volume:{image.volumes[0]}",
        "ProtectSystem": "strict",
        "PrivateTmp": "yes",
        "NoNewPrivileges": "yes",
    }
    given = [f"--property={name}={value}" for name, value in properties.items()]
    serve = as_the_image(reader, [*image.entrypoint, *image.command])
    return shlex.join(["systemd-run", "--quiet", "--unit=image", *given, "--", *serve])


def inside(reader: Reader, words: list[str]) -> str:
    """A command in that container, as its engine runs the one for its health."""
    pid = reader.machine.run("systemctl show --property MainPID --value image").strip()
    return shlex.join(["nsenter", f"--target={pid}", "--mount", "--", *as_the_image(reader, words)])


def test_what_is_installed_is_what_the_image_starts(reader: Reader) -> None:
    """By its command, alone with a volume, it serves, says so to its health command, and makes a call."""
    image, machine = stages()[-1], reader.machine
    owner = image.user.replace(":", " -g ")
    machine.run(f"systemctl stop weighbridge; install -d -m 700 -o {owner} /srv/volume; install -d /srv/configuration")
    machine.path("/srv/configuration/weighbridge.toml").write_text(IMAGES_CONFIGURATION)
    machine.run(container(reader))
    machine.run(f"until {inside(reader, image.health)} 2>/dev/null; do sleep 0.2; done")
    machine.run(inside(reader, [*image.entrypoint, "project", "create", "second"]))
    key = json.loads(machine.run(inside(reader, [*image.entrypoint, "key", "create", "second", "--json"])))["key"]
    assert '"candidates"' in machine.run(f"KEY={key}\n{reader.call()}")
    assert "gemini-3.8-flash" in machine.run(inside(reader, [*image.entrypoint, "usage", "report", "--by", "model"]))
    machine.run("systemctl kill --signal=KILL image")
