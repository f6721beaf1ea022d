"""A stopped pod is ill unless it was stopped on purpose; what runs is as the node says."""

import pytest

from shim.cloudpods import host_key, verdict
from shim.errors import CloudPodsError

STOPPED = "stopped while onboot is set"
DISK = "disk 96 % of 8192 MB is at or above 95 %"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ7p0q0Yk3oXv0m2bq1WkYw0Q5y5l6f7h8j9k0l1m2n3"

CASES = [
    # status, the node's verdict and reasons, the last order, what it comes to
    ("stopped", "critical", [STOPPED], "stopped", "ok", []),
    ("stopped", "critical", [STOPPED], "running", "critical", [STOPPED]),
    ("stopped", "ok", [], "stopped", "ok", []),
    ("stopped", "ok", [], "running", "critical", ["stopped though it was not ordered to be"]),
    ("stopped", "critical", [STOPPED, DISK], "stopped", "warning", [DISK]),
    ("stopped", "critical", [DISK], "stopped", "critical", [DISK]),
    ("stopped", "critical", [DISK], "running", "critical", ["stopped though it was not ordered to be", DISK]),
    ("stopped", "ok", ["busy: cloudpod-backup is at work"], "running", "ok", ["busy: cloudpod-backup is at work"]),
    ("running", "critical", [DISK], "stopped", "critical", [DISK]),
    ("running", "ok", [], "stopped", "ok", []),
    ("unknown", "warning", ["on node lab2"], "running", "warning", ["on node lab2"]),
    (None, "critical", ["no such container"], "stopped", "critical", ["no such container"]),
]


@pytest.mark.parametrize(("status", "said", "reasons", "wanted", "expected", "left"), CASES)
def test_what_was_ordered_decides_about_a_stopped_pod(status, said, reasons, wanted, expected, left):
    judged = verdict.judged({"vmid": 9101, "status": status, "verdict": said, "reasons": reasons}, wanted)
    assert (judged["verdict"], judged["reasons"]) == (expected, left)


@pytest.mark.parametrize("row", [{}, {"verdict": "fine"}, {"verdict": None}])
def test_a_row_without_a_verdict_is_refused(row):
    with pytest.raises(CloudPodsError, match="nothing usable about vmid 9101"):
        verdict.judged({"vmid": 9101, **row}, "running")


BAD_KEYS = {
    "none": None,
    "a number": 5,
    "empty": "",
    "another type": KEY.replace("ssh-ed25519", "ssh-dss"),
    "a comment": KEY + " root@pod",
    "two lines": KEY + "\n" + KEY,
    "a marker": "@cert-authority " + KEY,
    "options": 'command="id" ' + KEY,
    "a NUL": KEY + "\x00",
    "endless": KEY + "A" * 3000,
}


def test_a_host_key_is_kept():
    assert host_key.of({"host_key": KEY}) == KEY


@pytest.mark.parametrize("bad", BAD_KEYS.values(), ids=BAD_KEYS)
def test_what_is_no_host_key_is_not_kept(bad):
    assert host_key.of({"host_key": bad}) is None
