"""Options as Proxmox's commands read them (Getopt::Long) and verify them (PVE::JSONSchema)."""

from __future__ import annotations

import re
import sys

from . import formats
from .errors import ParameterError, RequestError


class Option:
    """One parameter: how it is read and what it may be. `check` returns a reason or an empty string."""

    __slots__ = ("check", "high", "kind", "longest", "low", "shortest")

    def __init__(
        self,
        kind: str = "string",
        low: float | None = None,
        high: float | None = None,
        check: formats.Check | None = None,
        longest: int | None = None,
        shortest: int | None = None,
    ) -> None:
        self.kind = kind  # string, integer, number, boolean, list, prompt (a value may be left out)
        self.low, self.high, self.check, self.longest, self.shortest = low, high, check, longest, shortest

    def reason(self, value: str) -> str:
        """Return why a value is refused, or an empty string."""
        if self.kind == "list":
            reasons = (self.check(item) for item in split_list(value)) if self.check else ()
            return next((reason for reason in reasons if reason), "")
        if self.check and (reason := self.check(value)):
            return reason
        if self.kind in ("integer", "number"):
            return formats.check_number(value, self.kind, self.low, self.high)
        if self.longest and len(value) > self.longest:
            return f"value may only be {self.longest} characters long"
        if self.shortest and len(value) < self.shortest:
            return f"value must be at least {self.shortest} characters long"
        return ""


STRING, BOOLEAN, LIST = Option(), Option("boolean"), Option("list")
VMID = Option("integer", 100, 999999999, formats.check_vmid)
STORAGE = Option(check=formats.check_storage_id)
SNAPNAME = Option(check=formats.check_configid, longest=40)
DNS_NAME = Option(check=formats.check_dns_name, longest=255)
_OSTYPES = (
    "debian",
    "devuan",
    "ubuntu",
    "centos",
    "fedora",
    "opensuse",
    "archlinux",
    "alpine",
    "gentoo",
    "nixos",
    "unmanaged",
)
_LOCKS = (
    "backup",
    "create",
    "destroyed",
    "disk",
    "fstrim",
    "migrate",
    "mounted",
    "rollback",
    "snapshot",
    "snapshot-delete",
)


def _properties(name: str) -> Option:
    return Option(check=lambda value: formats.check_properties(name, value))


CONFIG = {
    "cores": Option("integer", 1, 8192),
    "cpulimit": Option("number", 0, 8192),
    "cpuunits": Option("integer", 0, 500000),
    "memory": Option("integer", 16),
    "swap": Option("integer", 0),
    "hostname": DNS_NAME,
    "description": Option(longest=8192),
    "tags": Option("list", check=formats.check_tag),
    "nameserver": Option("list", check=formats.check_ip),
    "searchdomain": Option("list", check=formats.check_dns_name),
    "onboot": BOOLEAN,
    "protection": BOOLEAN,
    "template": BOOLEAN,
    "console": BOOLEAN,
    "debug": BOOLEAN,
    "unprivileged": BOOLEAN,
    "ostype": Option(check=formats.one_of(*_OSTYPES)),
    "arch": Option(check=formats.one_of("amd64", "i386", "arm64", "armhf", "riscv32", "riscv64")),
    "tty": Option("integer", 0, 6),
    "cmode": Option(check=formats.one_of("shell", "console", "tty")),
    "startup": STRING,
    "timezone": STRING,
    "hookscript": STRING,
    "lock": Option(check=formats.one_of(*_LOCKS)),
    "features": _properties("features"),
    "rootfs": _properties("rootfs"),
}
CREATE = {
    "storage": STORAGE,
    "password": Option("prompt", shortest=5),
    "ssh-public-keys": STRING,
    "pool": Option(check=formats.matches(re.compile(r"[A-Za-z0-9.\-_/]+\Z"), "pool name")),
    "start": BOOLEAN,
    "force": BOOLEAN,
    "restore": BOOLEAN,
    "unique": BOOLEAN,
    "bwlimit": Option("number", 0),
    "ignore-unpack-errors": BOOLEAN,
    "ha-managed": BOOLEAN,
}
_INDEXED = re.compile(r"(net|mp|dev|unused)(0|[1-9]\d{0,2})\Z")
_LAST_INDEX = {"net": 31, "mp": 255, "dev": 255, "unused": 255}


def config_option(name: str) -> Option | None:
    """Return the option of that exact name in a container's configuration, numbered ones (net0) included."""
    if indexed := _INDEXED.match(name):
        kind, number = indexed[1], int(indexed[2])
        if number > _LAST_INDEX[kind]:
            return None
        return _properties(name) if kind in ("net", "mp") else STRING
    return CONFIG.get(name)


def split_list(value: str) -> list[str]:
    """Return the items of a list that is separated by comma, semicolon or blank."""
    return [item for item in re.split(r"[,;\s\0]+", value) if item]


class Parser:
    """Reads a command line into parameters."""

    def __init__(self, positional: tuple[str, ...], options: dict[str, Option], indexed: bool = False) -> None:
        self._positional = positional
        self._options = options
        self._indexed = indexed
        self._errors: list[str] = []

    def parse(self, argv: list[str]) -> dict[str, str]:
        """Return the verified parameters by name, booleans as 1 or 0; refuse a command line Proxmox would refuse."""
        found, rest = self._collect(list(argv))
        if self._errors:
            sys.stderr.write("".join(f"{line}\n" for line in self._errors))
            raise RequestError("400 unable to parse option")
        self._place(found, rest)
        for name, value in found.items():
            if self._option(name).kind == "boolean":
                found[name] = _boolean(value)
        self._verify(found)
        return found

    def _option(self, name: str) -> Option:
        return self._options.get(name) or (config_option(name) if self._indexed else None) or STRING

    def _collect(self, argv: list[str]) -> tuple[dict[str, str], list[str]]:
        """Return the options and the remaining words."""
        found: dict[str, str] = {}
        rest: list[str] = []
        while argv:
            word = argv.pop(0)
            if word == "--":
                return found, rest + argv
            if not word.startswith("-") or word == "-":
                rest.append(word)
                continue
            name, equals, value = re.sub(r"^--?", "", word, count=1).partition("=")
            name = self._full_name(name)
            if name and (equals or self._take_value(name, argv)):
                value = value if equals else argv.pop(0)
            elif name and self._option(name).kind not in ("boolean", "prompt"):
                self._errors.append(f"Option {name} requires an argument")
                continue
            if name:
                repeated = self._option(name).kind == "list" and name in found
                found[name] = f"{found[name]},{value}" if repeated else value
        return found, rest

    def _take_value(self, name: str, argv: list[str]) -> bool:
        """Return whether the next word is this option's value: always for most, for a flag only what is no option."""
        if self._option(name).kind in ("boolean", "prompt"):
            return bool(argv) and not argv[0].startswith("-")
        return bool(argv)

    def _full_name(self, name: str) -> str:
        """Return an option's full name for an unambiguous beginning of it, case aside; note it as an error otherwise."""
        name = name.lower()
        full_names = {known.lower(): known for known in self._options}
        if name in full_names:
            return full_names[name]
        if self._indexed and config_option(name):
            return name
        candidates = sorted(known for lower, known in full_names.items() if name and lower.startswith(name))
        if len(candidates) == 1:
            return candidates[0]
        self._errors.append(
            f"Option {name} is ambiguous ({', '.join(candidates)})" if candidates else f"Unknown option: {name}"
        )
        return ""

    def _place(self, found: dict[str, str], rest: list[str]) -> None:
        """Give the words without a dash to the positional parameters; `extra-args` takes all that remain."""
        for name in self._positional:
            if name == "extra-args":
                found[name] = "\0".join(rest)
                rest.clear()
            elif not rest:
                raise RequestError("400 not enough arguments")
            else:
                found[name] = rest.pop(0)
        if rest:
            raise RequestError("400 too many arguments")

    def _verify(self, found: dict[str, str]) -> None:
        """Refuse values outside the schema, all at once."""
        reasons = {name: self._option(name).reason(value) for name, value in found.items()}
        reasons = {name: reason for name, reason in reasons.items() if reason}
        if reasons:
            raise ParameterError(reasons)


def _boolean(value: str) -> str:
    """Return 1 or 0 for a flag's value; a bare flag is 1."""
    parsed = formats.boolean(value or "1")
    if parsed is None:
        raise RequestError("400 unable to parse boolean option")
    return parsed
