"""The decisions about archives: argument vectors, which archive it is to be, whether it is restored already."""

from __future__ import annotations

import pytest
from ansible_collections.migra.cloudpods.plugins.module_utils import _archive as archive
from ansible_collections.migra.cloudpods.plugins.module_utils import _errors as errors

OLD, NEW, OTHERS, UNTOLD, PODLESS = (
    f"vzdump-backups:backup/vzdump-lxc-9101-2026_11_{day}-00_05_47.tar.zst" for day in (10, 20, 21, 22, 23)
)
WHOSE = {"tenant": "T-1", "pod": "p1", "job": "nightly", "created": "2026-11-20T00:05:47Z", "size_bytes": 5, "protected": False}
BACKUPS = [
    {**WHOSE, "volid": PODLESS, "pod": None},
    {**WHOSE, "volid": UNTOLD, "tenant": None, "pod": None, "job": None},
    {**WHOSE, "volid": OTHERS, "tenant": "T-2"},
    {**WHOSE, "volid": NEW},
    {**WHOSE, "volid": OLD},
]
OWNER = {"tenant": "T-1", "pod": "p1"}
RESTORE = {
    "vmid": 9101, "tenant_id": "T-1", "pod_id": "p1", "run_id": None, "archive": None, "from_vmid": None, "from_pod_id": None,
    "hostname": None, "ip": None, "auto_ip": None, "gateway": None, "bridge": None, "storage": None, "cores": None,
    "memory_mb": None, "swap_mb": None, "isolated": False, "force": False,
}  # fmt: skip
COPY = {**RESTORE, "vmid": 9102, "pod_id": "p2", "from_pod_id": "p1", "from_vmid": 9101, "hostname": "copy"}
SIZED = {"cores": 4, "memory_mb": 64, "swap_mb": 0, "storage": "s2", "bridge": "b1", "gateway": "10.1.10.2", "ip": "10.1.10.91"}
BACKUP = {"vmid": 9101, "mode": "stop", "storage": "t7", "retention": None, "tenant_id": "T-1", "pod_id": "p1", "run_id": "j.1"}


@pytest.mark.parametrize(
    ("changed", "ours", "arguments"),
    [
        ({}, True, "9101 --mode stop --storage t7 --tenant T-1 --pod p1 --run j.1"),
        ({}, False, "9101 --mode stop"),
        (
            {"retention": {"keep_last": 3, "keep_daily": 0, "keep_weekly": None}, "run_id": None},
            True,
            "9101 --mode stop --storage t7 --retention keep-last=3,keep-daily=0 --tenant T-1 --pod p1",
        ),
        ({"retention": {"keep_last": 3}}, False, "9101 --mode stop"),
    ],
)
def test_arguments_of_backup(changed: dict, ours: bool, arguments: str) -> None:
    assert archive.backup_arguments({**BACKUP, **changed}, ours) == arguments.split()


@pytest.mark.parametrize(
    ("params", "arguments"),
    [
        (RESTORE, f"9101 --archive {NEW} --tenant T-1 --pod p1"),
        ({**RESTORE, "force": True, "run_id": "j.2"}, f"9101 --archive {NEW} --tenant T-1 --pod p1 --run j.2 --force"),
        (COPY, f"9102 --archive {NEW} --tenant T-1 --pod p2 --from-pod p1 --host copy --auto-ip"),
        (
            {**COPY, **SIZED, "isolated": True},
            f"9102 --archive {NEW} --tenant T-1 --pod p2 --from-pod p1 --host copy --bridge b1 --storage s2 --cores 4 --mem 64"
            " --swap 0 --gw 10.1.10.2 --ip 10.1.10.91 --isolated",
        ),
    ],
)
def test_arguments_of_restore(params: dict, arguments: str) -> None:
    assert archive.restore_arguments(params, NEW) == arguments.split()


@pytest.mark.parametrize(
    ("params", "vmid"),
    [(RESTORE, 9101), (COPY, 9101), ({**COPY, "from_vmid": None, "archive": NEW.replace("9101", "777")}, 777)],
)
def test_the_vmid_that_the_archive_is_of(params: dict, vmid: int) -> None:
    assert archive.source_vmid(params) == vmid


def test_the_newest_archive_is_the_owners_own() -> None:
    chosen = {"volid": NEW, "created": "2026-11-20T00:05:47Z", "size_bytes": 5, "job": "nightly"}
    assert archive.choose(BACKUPS, None, OWNER) == chosen
    assert archive.choose(BACKUPS, OLD, OWNER)["volid"] == OLD


@pytest.mark.parametrize("backups", [[], BACKUPS[:3]])
def test_no_archive_of_the_owner(backups: list[dict]) -> None:
    with pytest.raises(errors.Refused, match="no archive of pod p1 of tenant T-1"):
        archive.choose(backups, None, OWNER)


@pytest.mark.parametrize("volid", [OTHERS, UNTOLD, PODLESS])
def test_an_archive_of_another_owner_or_of_nobody_is_refused(volid: str) -> None:
    with pytest.raises(errors.Refused, match="is not one of pod p1 of tenant T-1") as refused:
        archive.choose(BACKUPS, volid, OWNER)
    assert "T-2" not in str(refused.value.result())


def test_an_archive_on_another_storage_is_left_to_the_script() -> None:
    volid = NEW.replace("vzdump-backups", "t7-backup")
    assert archive.choose(BACKUPS, volid, OWNER) == {"volid": volid, "created": None, "size_bytes": None, "job": None}


STANDS = {"vmid": 9102, "exists": True, "unfinished": False, "restored": None}
BY_JOB = {**STANDS, "restored": {"job": "j", "archive": NEW}}
BY_HAND = {**STANDS, "restored": {"job": None, "archive": NEW}}


@pytest.mark.parametrize(
    ("row", "params", "done"),
    [
        ({"vmid": 9102, "exists": False}, RESTORE, False),
        ({**STANDS, "unfinished": True}, RESTORE, False),
        (STANDS, RESTORE, False),
        (STANDS, {**RESTORE, "force": True}, False),
        (BY_HAND, {**RESTORE, "force": True}, False),
        (BY_JOB, {**RESTORE, "run_id": "j.2"}, True),
        (BY_JOB, {**RESTORE, "run_id": "j.2", "force": True, "archive": NEW}, True),
        (BY_JOB, {**RESTORE, "run_id": "j.2", "force": True, "archive": OLD}, "has restored"),
        (BY_JOB, {**RESTORE, "run_id": "k.1", "force": True}, False),
        ({**BY_JOB, "unfinished": True}, {**COPY, "run_id": "j.2"}, False),
        (BY_JOB, {**COPY, "run_id": "j.2"}, True),
        (BY_JOB, {**COPY, "run_id": "k.1"}, "exists already"),
        (BY_JOB, COPY, True),
        (BY_HAND, COPY, True),
        (STANDS, COPY, "exists already"),
        ({**STANDS, "restored": {"job": None, "archive": OLD}}, COPY, "exists already"),
    ],
)
def test_whether_it_is_restored_already(row: dict, params: dict, done: bool | str) -> None:
    if isinstance(done, bool):
        assert archive.is_restored(row, NEW, params) is done
        return
    with pytest.raises(errors.Refused, match=done):
        archive.is_restored(row, NEW, params)


@pytest.mark.parametrize(
    ("row", "params", "refused"),
    [
        (STANDS, RESTORE, True),
        (STANDS, {**RESTORE, "force": True}, False),
        ({**STANDS, "exists": False}, RESTORE, False),
        ({**STANDS, "unfinished": True}, RESTORE, False),
        (STANDS, COPY, False),
    ],
)
def test_a_pod_is_not_replaced_without_leave(row: dict, params: dict, refused: bool) -> None:
    if not refused:
        archive.refuse_unforced(row, params)
        return
    with pytest.raises(errors.Refused, match="give force"):
        archive.refuse_unforced(row, params)


@pytest.mark.parametrize(("text", "words"), [(None, []), ("", []), ("-", []), ("a", ["a"]), ("a,b, c", ["a", "b", "c"])])
def test_a_list_of_a_summary(text: str | None, words: list[str]) -> None:
    assert archive.listed(text) == words


UNKNOWN = {"volid": None, "size_bytes": None, "mode": "snapshot", "storage": None, "duration_s": None}


@pytest.mark.parametrize(
    ("summary", "made"),
    [
        (
            {"Archive": "s:backup/a.tar.zst", "Size": "1024", "Mode": "stop", "Storage": "s", "Duration": "3"},
            {"volid": "s:backup/a.tar.zst", "size_bytes": 1024, "mode": "stop", "storage": "s", "duration_s": 3.0},
        ),
        ({}, UNKNOWN),
        ({"Size": "5 KB", "Duration": "soon"}, UNKNOWN),
    ],
)
def test_the_archive_of_a_backup(summary: dict, made: dict) -> None:
    assert archive.made(summary, {"mode": "snapshot", "storage": None}) == made
