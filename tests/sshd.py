"""A real sshd of whoever runs the tests, on loopback; and the lab's nodes behind one each, reached as real nodes are.

    with nodes_over_ssh(home, "lab1", "lab2") as nodes:
        stack = Stack(home, inventory=str(nodes.inventory))
        ...
        nodes.cut("lab1")   # in the middle of a run: its connections are gone, and nobody answers
        nodes.mend("lab1")

Everything is a private folder's: keys, known hosts, configuration, the home of who comes in (that person's own may have a
.bashrc that takes longer than all else). Needs no root; as root, nothing of the machine is touched.
"""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
import yaml

from shim.process import end_with_parent
from tests.stack import REPOSITORY, wait_until

LAB = REPOSITORY / "inventories/lab"
PRIVILEGE_SEPARATION = Path("/run/sshd")
# By this variable every process is known that a session has started, whoever its parent is by now.
MARK = "CLOUDPODS_TEST_SSHD"
CONFIG = """ListenAddress 127.0.0.1
Port {port}
HostKey {home}/host
AuthorizedKeysFile {home}/login.pub
AuthenticationMethods publickey
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
UseDNS no
PidFile none
PermitUserRC no
SetEnv {mark}={home} HOME={home}/user
MaxStartups 200
MaxSessions 200
"""


def why_not() -> str | None:
    """Return why there can be no sshd here, and what to do about it; None when there can be one."""
    if shutil.which("ssh") is None or _program() is None:
        return "there is no sshd or no ssh on this machine: install openssh-server and openssh-client"
    if os.getuid() != 0:
        return None
    if not PRIVILEGE_SEPARATION.is_dir() and not _may_unshare():
        return "as root sshd wants /run/sshd, and root may make no mounts here: mkdir /run/sshd, or test as another user"
    if _is_locked(pwd.getpwuid(0).pw_name):
        return "root's account is locked, and sshd lets nobody into such a one: usermod -p '*' root, or test as another user"
    return None


def skip_without_sshd() -> None:
    """Skip the test where there can be no sshd."""
    if reason := why_not():
        pytest.skip(reason)


class Sshd:
    """An sshd that lets in whoever runs it, with the key `login`; its own key is `host`. Start it in the main thread."""

    def __init__(self, home: Path) -> None:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.home = home
        (home / "user").mkdir(mode=0o700, exist_ok=True)
        self.port = _free_port()
        self.user = pwd.getpwuid(os.getuid()).pw_name
        self.known_hosts = home / "known_hosts"
        self.private_key = home / "login"
        for name in ("host", "login"):
            make_key(home / name)
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {self.key('host')}\n")
        (home / "config").write_text(CONFIG.format(home=home, port=self.port, mark=MARK))
        self._process: subprocess.Popen[bytes] | None = None

    def key(self, name: str) -> str:
        """Return a public key."""
        return (self.home / f"{name}.pub").read_text().strip()

    def start(self) -> None:
        """Listen; again, where it was stopped, at the same port with the same key."""
        assert self._process is None
        command = [str(_program()), "-D", "-f", str(self.home / "config"), "-E", str(self.home / "log")]
        if os.getuid() == 0 and not PRIVILEGE_SEPARATION.is_dir():
            # As root sshd wants this folder. It gets one that nobody else sees and that goes with it.
            make = f'mount -t tmpfs none {PRIVILEGE_SEPARATION.parent} && mkdir {PRIVILEGE_SEPARATION} && exec "$@"'
            command = ["unshare", "--mount", "sh", "-c", make, "sh", *command]
        self._process = subprocess.Popen(command, preexec_fn=end_with_parent(signal.SIGTERM))
        wait_until(self._answers, "sshd answers", 60)

    def cut(self) -> None:
        """Kill it and every session, as a cut cable would: what runs on the node goes on, and hears and says nothing more."""
        if self._process is None:
            return
        # Nobody comes in while its children are counted.
        self._process.send_signal(signal.SIGSTOP)
        for session in psutil.Process(self._process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                # Since OpenSSH 9.8 they are called sshd-session and sshd-auth.
                if session.name().startswith("sshd"):
                    session.kill()
        self._process.kill()
        self._process.wait(10)
        self._process = None

    def mend(self) -> None:
        """Listen again after a cut."""
        self.start()

    def running(self) -> list[psutil.Process]:
        """Return what sessions have started and still runs, cut or not."""
        return [process for process in psutil.process_iter() if _is_marked(process, str(self.home))]

    def stop(self) -> None:
        """Kill it, every session, and all that they have started."""
        self.cut()
        for process in self.running():
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def variables(self) -> dict[str, object]:
        """Return what Ansible needs to know to come in. Neither the user's settings nor the agent's keys have a say."""
        options = {
            "UserKnownHostsFile": self.known_hosts,
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes",
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
        }
        words = ["-F", "none", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]
        return {
            "ansible_connection": "ssh",
            "ansible_host": "127.0.0.1",
            "ansible_port": self.port,
            "ansible_user": self.user,
            "ansible_ssh_private_key_file": str(self.private_key),
            "ansible_ssh_common_args": shlex.join(words),
        }

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.home / "log").read_text()
        with socket.socket() as trial:
            return trial.connect_ex(("127.0.0.1", self.port)) == 0


class Nodes:
    """Lab nodes behind an sshd each, and the inventory that leads to them."""

    def __init__(self, home: Path, names: tuple[str, ...]) -> None:
        self.inventory = home / "inventory"
        self.sshds = {name: Sshd(home / name) for name in names}
        shutil.copytree(LAB, self.inventory)
        hosts = {"cloudpod_nodes": {"hosts": dict.fromkeys(names)}}
        (self.inventory / "hosts.yml").write_text(yaml.safe_dump(hosts))
        for name, sshd in self.sshds.items():
            file = self.inventory / "host_vars" / f"{name}.yml"
            others = yaml.safe_load(file.read_text()) if file.exists() else {}
            file.write_text(yaml.safe_dump({**others, **sshd.variables()}))

    def cut(self, *names: str) -> None:
        """Cut the way to these nodes, or to all."""
        for name in names or self.sshds:
            self.sshds[name].cut()

    def mend(self, *names: str) -> None:
        """Let these nodes, or all, be reached again."""
        for name in names or self.sshds:
            self.sshds[name].mend()

    def running(self) -> list[psutil.Process]:
        """Return what sessions have started on any node and still runs."""
        return [process for sshd in self.sshds.values() for process in sshd.running()]


@contextmanager
def nodes_over_ssh(home: Path, *names: str) -> Iterator[Nodes]:
    """Put these nodes of the lab below `home`, the folder of a Stack, behind an sshd each."""
    nodes = Nodes(home / "ssh", names or ("lab1",))
    try:
        for sshd in nodes.sshds.values():
            sshd.start()
        yield nodes
    finally:
        for sshd in nodes.sshds.values():
            sshd.stop()


def make_key(path: Path) -> None:
    """Make a pair of keys."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path], check=True)


def _program() -> str | None:
    # sshd wants to be called by its whole path, which a person's PATH seldom has.
    return shutil.which("sshd", path=os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin:/sbin")


def _may_unshare() -> bool:
    trial = ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/run"]
    return shutil.which("unshare") is not None and subprocess.run(trial, capture_output=True, check=False).returncode == 0


def _is_locked(user: str) -> bool:
    """Return whether root's view of the accounts says so; sshd looks at it when PAM is not asked."""
    lines = Path("/etc/shadow").read_text().splitlines()
    return any(line.startswith(f"{user}:!") for line in lines)


def _is_marked(process: psutil.Process, home: str) -> bool:
    try:
        return process.environ().get(MARK) == home
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
