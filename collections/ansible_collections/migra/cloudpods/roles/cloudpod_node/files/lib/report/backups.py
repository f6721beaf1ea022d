"""The archives of pods on one storage, as vzdump has named and annotated them."""

from __future__ import annotations

import os
import re
import subprocess
import time

ARCHIVE = re.compile(r"\S+:backup/vzdump-lxc-([1-9][0-9]{2,8})-([0-9_]{10}-[0-9_]{8})\.tar(?:\.(?:zst|gz|lzo))?")
NOTES = re.compile(r"(?:^|\s)cloudpod tenant=([A-Za-z0-9._:-]+) pod=([A-Za-z0-9._:-]+) job=([A-Za-z0-9_-]+)(?:\s|$)")
NOTES_READ = 4096  # bytes; ours are in the first line


class StorageUnreadable(Exception):
    """The storage did not say what is on it."""


def on_storage(storage: str) -> dict[int, list[dict]]:
    """Return vmid → its archives on a storage, the newest first. Two calls of pvesm, however many there are."""
    lines = [line.split() for line in ask("list", storage, "--content", "backup")]
    volumes = [(match, fields) for fields in lines if fields and (match := ARCHIVE.fullmatch(fields[0]))]
    if not volumes:
        return {}
    # They all lie in one folder, with their notes beside them.
    folder = os.path.dirname(ask("path", volumes[0][0][0])[0])
    found: dict[int, list[dict]] = {}
    for match, fields in sorted(volumes, key=lambda each: (each[0][2], each[0][0]), reverse=True):
        found.setdefault(int(match[1]), []).append(archive(folder, match, fields))
    return found


def ask(*arguments: str) -> list[str]:
    """Return what pvesm says, line by line."""
    done = subprocess.run(["pvesm", *arguments], capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise StorageUnreadable(" ".join(done.stderr.split()) or f"pvesm {arguments[0]} failed and gave no reason")
    return done.stdout.splitlines()


def archive(folder: str, match: re.Match[str], fields: list[str]) -> dict:
    """Given its folder and pvesm's words about it, return one archive's row."""
    path = os.path.join(folder, match[0].rpartition("/")[2])
    tenant, pod, job = owner(f"{path}.notes")
    return {
        "volid": match[0],
        "created": created(match[2]),
        "size_bytes": int(fields[3]) if len(fields) > 3 and fields[3].isdecimal() else None,
        "tenant": tenant,
        "pod": pod,
        "job": job,
        "protected": os.path.exists(f"{path}.protected"),
    }


def created(stamp: str) -> str | None:
    """Given the local time in an archive's name, return it in UTC."""
    try:
        moment = time.mktime(time.strptime(stamp, "%Y_%m_%d-%H_%M_%S"))
    except ValueError:
        return None
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


def owner(path: str) -> tuple[str | None, str | None, str | None]:
    """Given an archive's notes file, return tenant, pod and job; None where it does not say."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            found = NOTES.search(file.read(NOTES_READ))
    except OSError:
        found = None
    if not found:
        return None, None, None
    tenant, pod, job = (None if word == "-" else word for word in found.groups())
    return tenant, pod, job


def add(rows: list[dict], found: dict[int, list[dict]]) -> None:
    """Give each row its archives. Of a vmid that now is a container outside the pool only those that were a pod's."""
    for row in rows:
        archives = found.get(row["vmid"], [])
        foreign = row["exists"] and not row["in_pool"] and not row["unfinished"]
        row["backups"] = [each for each in archives if each["tenant"]] if foreign else archives
