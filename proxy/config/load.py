"""Reads the configuration: defaults, then weighbridge.toml, then the environment, then the secrets it refers to."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ValidationError

from proxy.config import certificates, secrets, tracing
from proxy.config.schema import Alias, Price, Settings
from proxy.config.section import Section
from proxy.config.stamps import Stamp, stamp
from proxy.config.upstreams import NAME_PATTERN, NAME_RULE, TLS_FILES, Upstream

PREFIX = "WEIGHBRIDGE_"
DEFAULT_FILE = Path("weighbridge.toml")
GOOGLE_KEYS = ("GEMINI_API_KEY", "GOOGLE_API_KEY")
NO_UPSTREAM = (
    "no upstream: set GEMINI_API_KEY to a Gemini API key (from https://aistudio.google.com/apikey), "
    "or write [[upstreams]] in weighbridge.toml"
)

_SECTIONS: dict[str, type[BaseModel]] = {
    name: field.annotation
    for name, field in Settings.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
}
SECRETS = ("api_key", "proxy_password", "database_password", "redis_password", "webhook_secret", "headers")
"""Fields that can't be written: they hold what a reference, `<name>_env` or `<name>_file`, led to."""
_PARSED = {"webhook_secret": secrets.webhook_key, "headers": tracing.parse_headers}
"""Of secrets that have a form."""
_VARIABLES = {
    f"{PREFIX}{section}__{name}".upper(): (section, name)
    for section, model in _SECTIONS.items()
    for name in model.model_fields
    if name not in SECRETS
}
_LISTS: dict[str, type[BaseModel]] = {"upstreams": Upstream, "models": Alias, "prices": Price}
_LISTED_VARIABLES = tuple(f"{PREFIX}{name}_".upper() for name in _LISTS)
_PATHS = (
    ("storage", "data_dir"),
    ("storage", "database_password_file"),
    ("storage", "redis_password_file"),
    ("storage", "redis_ca_file"),
    ("events", "webhook_secret_file"),
    ("tracing", "headers_file"),
    ("server", "tls_cert"),
    ("server", "tls_key"),
)

_IN_WORDS = {
    "missing": "is required",
    "path_not_file": "leads to no file",
    "tuple_type": 'should be a list, such as ["…"]',
    "too_short": "should have at least one entry",
}
"""What pydantic says in its own terms, by its name for the mistake."""

_MAY_HOLD_SECRETS = ("database_url", "redis_url", "webhook_url", "otlp_endpoint")
"""Settings whose values are never shown where they are wrong."""

Location = tuple[str | int, ...]
"""Of a setting: ("server", "port"), ("upstreams", 0, "name")."""


class ConfigError(Exception):
    """The configuration can't be used. Each of `problems` says where, what is wrong, and what to do."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)
        self.files: Mapping[Path, Stamp] = {}
        """What was looked at until then: see `Loaded.files`."""


@dataclass(frozen=True)
class Loaded:
    """A configuration and where it came from."""

    settings: Settings
    file: Path | None
    origins: Mapping[str, str]
    """For each setting that isn't at its default, by dotted name: where it was read ("weighbridge.toml:3")."""
    warnings: tuple[str, ...]
    files: Mapping[Path, Stamp]
    """Every file that it hangs on, the missing default file too, as each was just before it was read."""


def load(
    path: Path | None, environ: Mapping[str, str], *, upstreams: bool = True, secrets_too: bool = True
) -> Settings:
    """The settings in force; see `read`. Raises ConfigError."""
    return read(path, environ, upstreams=upstreams, secrets_too=secrets_too).settings


def read(path: Path | None, environ: Mapping[str, str], *, upstreams: bool = True, secrets_too: bool = True) -> Loaded:
    """Reads the file (`path`, else $WEIGHBRIDGE_CONFIG, else ./weighbridge.toml if there is one) and the environment.

    `upstreams=False` leaves out the upstreams, all secrets, and the doors' certificate, for commands that call nobody:
    they must work where the secrets aren't at hand; the passwords of PostgreSQL and Redis are taken where they are.
    `secrets_too=False` leaves out the secrets alone: each upstream's key is "?" then. Raises ConfigError, with every
    problem at once.
    """
    everything = upstreams and secrets_too
    reader = _Reader(environ)
    try:
        reader.take_file(path)
        reader.take_environment()
        reader.take_secret("storage", "database_password", "the password of PostgreSQL", known=everything, wanted=True)
        reader.take_secret("storage", "redis_password", "the password of Redis", known=everything, wanted=True)
        reader.take_secret("events", "webhook_secret", "the secret of the webhook", known=everything)
        reader.take_secret("tracing", "headers", "the headers for the collector", known=everything)
        if upstreams:
            reader.take_upstreams(keys=secrets_too)
        else:
            reader.raw.pop("upstreams", None)
        if everything:
            reader.watch_certificate()
        settings = reader.settings()
        reader.files[settings.storage.prices_file] = stamp(settings.storage.prices_file)
        if everything:
            reader.check_certificates(settings)
            reader.check_packages(settings)
    except ConfigError as error:
        error.files = reader.files
        raise
    return Loaded(settings, reader.file, reader.origins, tuple(reader.warnings), reader.files)


class _Reader:
    """Gathers settings as plain values, noting where each was read and what is wrong with it."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.file: Path | None = None
        self.raw: dict[str, Any] = {}
        self.origins: dict[str, str] = {}
        self.lines: dict[Location, int] = {}
        self.problems: list[str] = []
        self.warnings: list[str] = []
        self.files: dict[Path, Stamp] = {}

    def take_file(self, path: Path | None) -> None:
        named = path or (Path(self.environ[f"{PREFIX}CONFIG"]) if self.environ.get(f"{PREFIX}CONFIG") else None)
        self.files[named or DEFAULT_FILE] = stamp(named or DEFAULT_FILE)
        self.file = named or (DEFAULT_FILE if DEFAULT_FILE.is_file() else None)
        if self.file is None:
            return
        try:
            text = self.file.read_text("utf-8")
            self.raw = tomllib.loads(text, parse_float=Decimal)
        except OSError as error:
            by = "" if path or not named else f" (named by ${PREFIX}CONFIG)"
            raise ConfigError([f"{self.file}{by}: can't be read: {error.strerror}"]) from None
        except UnicodeDecodeError:
            raise ConfigError([f"{self.file}: is not UTF-8 text"]) from None
        except tomllib.TOMLDecodeError as error:
            raise ConfigError([f"{self.file}: is not valid TOML: {error}"]) from None
        self.lines = _lines(text)
        for name, value in self.raw.items():
            self._note(name, value)
        for section, name in _PATHS:
            if isinstance(self.raw.get(section), dict):
                self._anchor(self.raw[section], name)

    def _note(self, name: str, value: object) -> None:
        """Notes where in the file the settings of a section stand."""
        entries = list(enumerate(value)) if isinstance(value, list) else [(None, value)]
        for index, entry in entries:
            for setting in entry if isinstance(entry, dict) else ():
                at: Location = (name, setting) if index is None else (name, index, setting)
                self.origins[_dotted(at)] = f"{self.file}:{self.lines[at]}" if at in self.lines else f"{self.file}"

    def _origin(self, at: Location) -> str:
        """Where a setting was read, else where the entry begins that it is of, else the file."""
        for length in range(len(at), 1, -1):
            if known := self.origins.get(_dotted(at[:length])):
                return known
            if line := self.lines.get(at[:length]):
                return f"{self.file}:{line}"
        return str(self.file) if self.file else "configuration"

    def _anchor(self, table: dict[str, Any], name: str) -> None:
        """A relative path in the file is meant from the file's folder, wherever the command was started."""
        value = table.get(name)
        if self.file is not None and isinstance(value, str) and not value.startswith("~"):
            table[name] = str(self.file.parent / value)

    def _watch(self, table: object, name: str) -> None:
        """What a setting refers to is a file of the configuration, too."""
        if isinstance(table, dict) and isinstance(value := table.get(name), str):
            self.files[Path(value)] = stamp(Path(value))

    def take_environment(self) -> None:
        nearly = {name.replace("__", "_"): name for name in _VARIABLES}
        nearly |= {f"{PREFIX}{setting}".upper(): name for name, (_, setting) in _VARIABLES.items()}
        for name in sorted(self.environ):
            if name in _VARIABLES:
                section, setting = _VARIABLES[name]
                table = self.raw.setdefault(section, {})
                if isinstance(table, dict):
                    table[setting] = self.environ[name]
                    self.origins[f"{section}.{setting}"] = f"env {name}"
            elif name.startswith(_LISTED_VARIABLES) and "://" not in self.environ[name]:
                self.problems.append(
                    f"env {name}: [[upstreams]], [[models]] and [[prices]] are lists: write them in weighbridge.toml"
                )
            elif name.startswith(PREFIX) and "__" in name:
                self.problems.append(f"env {name}: unknown setting{_nearest(name, _VARIABLES)}")
            # Kubernetes sets such names (to tcp://…) for a service that is called weighbridge or weighbridge-server.
            elif name in nearly and "://" not in self.environ[name]:
                self.problems.append(
                    f"env {name}: write the section and two underscores before the name: {nearly[name]}"
                )

    def take_upstreams(self, *, keys: bool) -> None:
        """`keys`: whether what each refers to must be there."""
        listed = self.raw.get("upstreams")
        if listed is None:
            listed = self.raw["upstreams"] = self._google()
        if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
            del self.raw["upstreams"]
            self.problems.append(
                f"{self.file}: upstreams is a list: write [[upstreams]], with two brackets on each side"
            )
        elif not keys:
            for upstream in listed:
                upstream["api_key"] = "?"
        elif not listed:
            self.problems.append(NO_UPSTREAM)
        else:
            for index, upstream in enumerate(listed):
                self._take_files(index, upstream)

    def _google(self) -> list[dict[str, Any]]:
        """The upstream that needs no configuration."""
        for name in GOOGLE_KEYS:
            if self.environ.get(name, "").strip():
                self.origins["upstreams.0.name"] = self.origins["upstreams.0.api_key_env"] = f"env {name}"
                return [{"name": "google", "api_key_env": name}]
        return []

    def _take_files(self, index: int, upstream: dict[str, Any]) -> None:
        for name in ("api_key_file", "proxy_password_file", *TLS_FILES):
            self._anchor(upstream, name)
        for name in TLS_FILES:
            self._watch(upstream, name)
        at = ("upstreams", index)
        upstream["api_key"] = self._resolved(at, upstream, "api_key", "the key of this upstream")
        if any(f"proxy_password{how}" in upstream for how in ("", "_env", "_file")):
            upstream["proxy_password"] = self._resolved(at, upstream, "proxy_password", "the password of proxy_url")

    def take_secret(self, section: str, secret: str, of: str, *, known: bool, wanted: bool = False) -> None:
        """Follows the reference to a secret, if a section has one. `known`: whether it must lead to something.

        `wanted`: whether it is followed also where it needn't lead anywhere.
        """
        table = self.raw.get(section)
        names = (secret, f"{secret}_env", f"{secret}_file")
        if not isinstance(table, dict) or not any(name in table for name in names):
            return
        if known or secret in table:
            table[secret] = self._resolved((section,), table, secret, of)
        elif wanted:
            with suppress(secrets.SecretError):
                table[secret] = secrets.resolve(table, self.environ, secret, of)

    def _resolved(self, place: Location, table: dict[str, Any], secret: str, of: str) -> str:
        """What a reference leads to; "?" where it leads nowhere, so that the rest is checked as well."""
        self._watch(table, f"{secret}_file")
        try:
            value = secrets.resolve(table, self.environ, secret, of)
            if (parse := _PARSED.get(secret)) is not None:
                secrets.check(table, secret, value, parse)
        except secrets.SecretError as bad:
            at = (*place, bad.setting)
            self.problems.append(f"{self._origin(at)}: {_dotted(at)}: {bad}")
            return "?"
        file = table.get(f"{secret}_file")
        if file and (warning := secrets.exposure(Path(file))):
            self.warnings.append(warning)
        return value

    def settings(self) -> Settings:
        try:
            settings = Settings.model_validate(self.raw)
        except ValidationError as error:
            # pydantic's own text, and its `input`, may hold what must not be shown: only what is known to be plain is.
            self.problems += [self._sentence(cast("dict[str, Any]", problem)) for problem in error.errors()]
        if self.problems:
            raise ConfigError(self.problems)
        return settings

    def watch_certificate(self) -> None:
        for name in ("tls_cert", "tls_key"):
            self._watch(self.raw.get("server"), name)

    def check_certificates(self, settings: Settings) -> None:
        """The pairs of the gateway door and of upstreams must fit together. Raises ConfigError."""
        if warning := certificates.untrusting(self.environ):
            self.warnings.append(warning)
        server, problems = settings.server, []
        if server.tls_cert is not None and server.tls_key is not None:
            try:
                certificates.server_context(server.tls_cert, server.tls_key)
            except ValueError as error:
                problems.append(str(error))
        for index, upstream in enumerate(settings.upstreams):
            for setting, problem in certificates.wrong_files(upstream):
                at = ("upstreams", index, setting)
                problems.append(f"{self._origin(at)}: {_dotted(at)}: {problem}")
        if problems:
            raise ConfigError(problems)

    def check_packages(self, settings: Settings) -> None:
        """What is asked for must be installed. Raises ConfigError."""
        if settings.tracing.lacks_package:
            at = ("tracing", "otlp_endpoint")
            raise ConfigError([f"{self._origin(at)}: {_dotted(at)}: {tracing.LACKING}"])

    def _sentence(self, problem: dict[str, Any]) -> str:
        at: Location = tuple("from" if part == "from_" else part for part in problem["loc"])
        origin = self._origin(at)
        if problem["type"] == "extra_forbidden":
            return f"{origin}: {_dotted(at)}: unknown setting{_nearest(str(at[-1]), _names_beside(at))}"
        message = (
            problem["msg"]
            .removeprefix("Value error, ")
            .replace("Decimal input", "Input")
            .replace("Input should", "should")
        )
        message = _IN_WORDS.get(problem["type"], message)
        if problem["type"] == "string_pattern_mismatch":
            pattern = problem["ctx"]["pattern"]
            message = NAME_RULE if pattern == NAME_PATTERN else f"should match {pattern}"
        value = problem["input"]
        # Others' mistake may be a secret in them.
        open_to_all = at and at[0] != "upstreams" and at[-1] not in _MAY_HOLD_SECRETS
        plain = open_to_all and isinstance(value, str | int | float | Decimal)
        shown = f" = {str(value)[:80]}" if plain else ""
        return f"{origin}: {_dotted(at)}{shown}: {message}" if at else f"{origin}: {message}"


def _names_beside(at: Location) -> list[str]:
    """The valid names where an unknown one stands."""
    if len(at) == 1:
        return list(Settings.model_fields)
    model = _LISTS.get(str(at[0])) or _SECTIONS[str(at[0])]
    return [field.alias or name for name, field in model.model_fields.items() if name not in SECRETS]


def _nearest(name: str, valid: Iterable[str]) -> str:
    near = get_close_matches(name, valid, n=1)
    return f"; did you mean {near[0]}?" if near else "; `weighbridge config show` names those that exist"


def _dotted(at: Location) -> str:
    return ".".join(str(part) for part in at)


def _lines(text: str) -> dict[Location, int]:
    """On which line each setting stands and each entry of a list begins; what isn't in the plain style gets no line."""
    found: dict[Location, int] = {}
    seen: Counter[str] = Counter()
    section: Location = ()
    for number, line in enumerate(text.splitlines(), 1):
        if match := re.match(r"\s*\[\[\s*([\w-]+)\s*\]\]", line):
            section = (match[1], seen[match[1]])
            seen[match[1]] += 1
            found[section] = number
        elif (match := re.match(r"\s*\[\s*([\w-]+)\.([\w-]+)", line)) and section[:1] == (match[1],):
            found.setdefault((*section, match[2]), number)  # a table in an entry, such as [upstreams.limits]
        elif match := re.match(r"\s*\[\s*([\w-]+)\s*\]", line):
            section = (match[1],)
        elif match := re.match(r"\s*([\w-]+)\s*=", line):
            found.setdefault((*section, match[1]), number)
    return found
