"""What is looked at of the disk and of files: room, file system, and who may read what nobody else should."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from proxy.billing.ledger_errors import LedgerUnusable
from proxy.billing.ledger_file import BALLAST_BYTES, MIB, ballast_of
from proxy.billing.ledger_slot import refuse_network_file_system
from proxy.cli.doctor.findings import Finding, Verdict, ok, problem, warning
from proxy.config.schema import Settings
from proxy.control.admin.token import FILE_NAME as ADMIN_TOKEN
from proxy.gateway.intake import DISK_KEPT_FREE
from proxy.store.sqlite import FILE_NAME as DATABASE

FILES_NEEDED = 1_000
"""Of a disk that counts its files (inodes)."""


def check_disk(data_dir: Path) -> Iterator[Finding]:
    """The disk that the data folder is on, or will be on."""
    folder = _nearest(data_dir)
    disk = os.statvfs(folder)
    ballast = ballast_of(data_dir / "ledger" / "0.db")
    stands = ballast.is_file() and ballast.stat().st_size >= BALLAST_BYTES
    yield room(folder, disk.f_bavail * disk.f_frsize, ballast=stands)
    if disk.f_files and disk.f_favail < FILES_NEEDED:
        yield problem(f"{folder}: the disk takes only {disk.f_favail} more files", "remove files that nobody needs")
    if disk.f_flag & os.ST_RDONLY:
        yield problem(
            f"{folder} is on a disk that is mounted read-only", "mount it for writing, or set storage.data_dir"
        )
    elif not os.access(folder, os.W_OK | os.X_OK):
        yield problem(
            f"{folder} can't be written by this user", "give it to the server's user, or run doctor as that one"
        )
    try:
        refuse_network_file_system(folder)
    except LedgerUnusable as error:
        yield problem(str(error).partition(". ")[0], "set storage.data_dir to a folder on a local disk")


def room(folder: Path, free: int, *, ballast: bool) -> Finding:
    """`free` is in bytes. With `ballast` the 64 MiB that the ledger keeps for a full disk stand."""
    at = f"{folder}: {free / MIB:,.0f} MiB free"
    if not ballast and free < BALLAST_BYTES * 5 // 4:
        return problem(
            f"{at}: no room for the ledger's {BALLAST_BYTES // MIB} MiB of ballast, so calls are refused",
            "free space on this disk, or set storage.data_dir to another",
        )
    if free < DISK_KEPT_FREE:
        return warning(
            f"{at}: large request bodies are refused, and the ledger may soon have no room",
            f"free space: {DISK_KEPT_FREE // MIB} MiB and more should be left",
        )
    return ok(at)


def check_modes(settings: Settings, file: Path | None) -> Iterator[Finding]:
    """Who else on this machine may read secrets and the bill, or change the configuration (`file`)."""
    data_dir = settings.storage.data_dir
    exposed = [
        *(found for found in _open_to_all([file], "the configuration", "644") if found.verdict is Verdict.PROBLEM),
        *_open_to_all(_secrets(settings), "this secret", "600"),
        *_open_to_all([data_dir / ADMIN_TOKEN], "the admin token", "600"),
        *_open_to_all([data_dir, data_dir / "ledger"], "what is in it", "700"),
        *_open_to_all([data_dir / DATABASE, *(data_dir / "ledger").glob("*.db")], "it", "600"),
        *_open_to_all([settings.storage.prices_file], "the price book", "600"),
    ]
    yield from exposed
    if not exposed:
        yield ok("secrets and data are for their owner, and for groups that it gave them to")


def _secrets(settings: Settings) -> list[Path]:
    named = [settings.server.tls_key]
    for upstream in settings.upstreams:
        named += [upstream.api_key_file, upstream.client_key_file, upstream.proxy_password_file]
    named += [
        settings.storage.database_password_file,
        settings.storage.redis_password_file,
        settings.events.webhook_secret_file,
        settings.tracing.headers_file,
    ]
    return [path.expanduser() for path in named if path is not None]


def _open_to_all(paths: Iterable[Path | None], what: str, mode: str) -> Iterator[Finding]:
    for path in filter(None, paths):
        try:
            seen = path.stat().st_mode
        except OSError:
            continue  # what must be there, other checks miss
        if seen & 0o002:
            yield problem(f"{path}: every user of this machine can change {what}", f"chmod {mode} {path}")
        elif seen & 0o004:
            yield warning(f"{path}: every user of this machine can read {what}", f"chmod {mode} {path}")


def _nearest(folder: Path) -> Path:
    """The folder itself, or the one above it in which it will be made."""
    path = folder.absolute()
    while not path.is_dir() and path != path.parent:
        path = path.parent
    return path
