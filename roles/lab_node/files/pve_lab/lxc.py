"""The backend with real containers: Debian's lxc, systemd inside, a root that is an overlay on the shared template.

A volume is a directory: `root/` holds what is the container's own, the link `lower` names the unpacked template below
it, `.zfs/` the size limit and the snapshots (each again `root/` and `lower`). Without `lower` the container is all in
`root/`: restored, or on a directory storage.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time

from . import cgroups, firewall, lxc_config
from .conf import Section
from .errors import PveError
from .files import held, read_text, remove_tree, write_text
from .simulated import Simulated

# lxc's default path, so that a container's command socket is called as on a Proxmox node.
LXC_PATH = "/var/lib/lxc"
NET_UNIX = "/proc/net/unix"
SOCKET = re.compile(r"@/var/lib/lxc/(\d+)/command$", re.MULTILINE)
MARK = "cloudpods-lab"
TAR = ("tar", "--numeric-owner", "--xattrs", "--xattrs-include=*")
# What vzdump leaves out of its own accord.
NOT_ARCHIVED = ("./tmp/?*", "./var/tmp/?*", "./var/run/?*.pid")
COMPRESSORS = {"gzip": "gzip -1", "zstd": "zstd -q -T0 -1"}
POLL_S = 0.02
STOP_TIMEOUT_S = 30
# The merged tree is only seen inside this call's own mount namespace: a killed call leaves no mount.
MERGED = 'mount --make-rprivate / && mount -t overlay lab -o "ro,lowerdir=$1" "$2" && shift 2 && exec "$@"'


class Lxc(Simulated):
    """Runs containers."""

    def __init__(self, lab) -> None:
        super().__init__(lab)
        # The node scripts run under 077, which would make a guest's directories unreadable for its own users.
        os.umask(0o022)

    # -- what runs -------------------------------------------------------------------------------------------------

    def running_vmids(self) -> set[int]:
        """Return the vmids of the containers that run."""
        return {int(vmid) for vmid in SOCKET.findall(read_text(NET_UNIX))}

    def is_running(self, vmid: int) -> bool:
        """Return whether one container runs."""
        return vmid in self.running_vmids()

    def start(self, vmid: int, section: Section) -> None:
        """Start a container. The caller's descriptors (a script's run lock) must not live on in it: close_fds."""
        home, unified = self._take_home(vmid), cgroups.is_unified()
        volume = self._volume(section)
        limits = cgroups.limits(vmid, section, sorted(os.sched_getaffinity(0)), unified)
        write_text(f"{home}/config", lxc_config.text(vmid, section, _rootfs(volume), limits, unified))
        self._prepare_guest(volume, section, vmid)
        firewall.apply(self.lab, vmid, section)
        log = self.lab.path("log", f"lxc-{vmid}.log")
        done = _run("lxc-start", "-n", str(vmid), "-d", "-l", "WARN", "-o", log, check=False)
        if done.returncode:
            cgroups.remove(vmid)
            sys.stderr.write(done.stderr.replace("lxc-start: ", ""))
            raise PveError(f"startup for container '{vmid}' failed")

    def _take_home(self, vmid: int) -> str:
        """Return the container's directory of lxc's; refuse one that is not the lab's."""
        home = f"{LXC_PATH}/{vmid}"
        if os.path.isdir(home) and read_text(f"{home}/{MARK}") != self.lab.root:
            raise PveError(f"'{home}' belongs to a container that is not this lab's")
        os.makedirs(home, exist_ok=True)
        write_text(f"{home}/{MARK}", self.lab.root)
        return home

    def _prepare_guest(self, volume: str, section: Section, vmid: int) -> None:
        """Write what Proxmox writes into a guest at every start."""
        name = section.get("hostname", f"CT{vmid}")
        self.put_file(volume, "etc/hostname", f"{name}\n")
        self.put_file(volume, "etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {name}\n::1 localhost ip6-localhost\n")
        servers = section.get("nameserver", "").split()
        self.put_file(
            volume,
            "etc/resolv.conf",
            "".join(f"nameserver {each}\n" for each in servers) or read_text("/etc/resolv.conf"),
        )

    def stop(self, vmid: int) -> None:
        """Stop a container at once."""
        _run("lxc-stop", "-n", str(vmid), "-k", check=False)
        self._wait_stopped(vmid)

    def shutdown(self, vmid: int, timeout_s: int, force: bool) -> None:
        """Ask a container to stop, and wait; with `force` stop it when it does not."""
        argv = ["lxc-stop", "-n", str(vmid), "-t", str(timeout_s), *([] if force else ["--nokill"])]
        _run(*argv, check=False)
        if not force and self.is_running(vmid):
            raise PveError("container did not stop")
        self._wait_stopped(vmid)

    def _wait_stopped(self, vmid: int) -> None:
        """Wait until the command socket is gone."""
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while self.is_running(vmid):
            if time.monotonic() > deadline:
                raise PveError("container did not stop")
            time.sleep(POLL_S)

    def freeze(self, vmid: int, frozen: bool) -> None:
        """Freeze or thaw a container."""
        _run("lxc-freeze" if frozen else "lxc-unfreeze", "-n", str(vmid))

    def forget(self, vmid: int) -> None:
        """Remove lxc's directory, groups, log and firewall of a destroyed container."""
        firewall.remove(self.lab, vmid)
        cgroups.remove(vmid)
        home = f"{LXC_PATH}/{vmid}"
        if read_text(f"{home}/{MARK}") == self.lab.root:
            remove_tree(home)
        if os.path.exists(log := self.lab.path("log", f"lxc-{vmid}.log")):
            os.unlink(log)

    def set_limits(self, vmid: int, section: Section) -> None:
        """Bring a running container's limits in line with its configuration."""
        cgroups.apply(vmid, cgroups.limits(vmid, section, sorted(os.sched_getaffinity(0)), cgroups.is_unified()))

    def set_network(self, vmid: int, section: Section) -> None:
        """Bring a running container's links and firewall in line with its configuration."""
        firewall.apply(self.lab, vmid, section)
        for name, pairs in lxc_config.interfaces(section):
            _run("ip", "link", "set", f"veth{vmid}i{name[3:]}", "down" if pairs.get("link_down") == "1" else "up")

    def figures(self, vmid: int) -> dict[str, int]:
        """Return a running container's memory and swap in bytes, uptime in seconds and first pid."""
        pid = _run("lxc-info", "-n", str(vmid), "-pH", check=False).stdout.strip()
        return {**cgroups.figures(vmid), "uptime": _age_s(pid), "pid": int(pid or 0)}

    def execute(self, vmid: int, argv: list[str], keep_env: bool) -> int:
        """Run a command inside a container, by default a shell; return its exit code."""
        sys.stdout.flush()
        attach = ["lxc-attach", "-n", str(vmid), *([] if keep_env else ["--clear-env"])]
        return subprocess.run([*attach, *(["--", *argv] if argv else [])], check=False).returncode

    def push(self, vmid: int, source: str, target: str, owner: str, perms: str) -> None:
        """Copy a file into a container, through a process inside: a link there cannot lead out."""
        script = 'cat >"$1" && { [ -z "$2" ] || chown -- "$2" "$1"; } && { [ -z "$3" ] || chmod -- "$3" "$1"; }'
        with open(source, "rb") as handle:
            argv = ["lxc-attach", "-n", str(vmid), "--clear-env", "--", "sh", "-c", script, "sh", target, owner, perms]
            if subprocess.run(argv, stdin=handle, check=False).returncode:
                raise PveError(f"failed to create file: {target}")

    def pull(self, vmid: int, source: str, target: str) -> None:
        """Copy a file out of a container."""
        argv = ["lxc-attach", "-n", str(vmid), "--clear-env", "--", "cat", "--", source]
        with open(target, "wb") as handle:
            failed = subprocess.run(argv, stdout=handle, check=False).returncode
        if failed:
            os.unlink(target)
            raise PveError(f"failed to open {source}: No such file or directory")

    def has_bridge(self, name: str) -> bool:
        """Return whether this machine has this bridge."""
        return os.path.isdir(f"/sys/class/net/{name}/bridge")

    # -- volumes ---------------------------------------------------------------------------------------------------

    def _volume(self, section: Section) -> str:
        """Return the directory of a container's root volume."""
        from .volumes import root_path

        return root_path(self.lab, section)

    def unpack(self, template: str, volume: str, shared: bool) -> int:
        """Fill a volume from a template: laid over the tree that all share, or with files of its own."""
        root = f"{volume}/root"
        if shared:
            os.symlink(self.unpacked(template), f"{volume}/lower")
            os.makedirs(root)
            return os.stat(template).st_size
        os.makedirs(root)
        return _extract(template, root)

    def unpacked(self, template: str) -> str:
        """Return the tree of an unpacked template, unpacked at its first use."""
        stat = os.stat(template)
        name = f"{os.path.basename(template)}-{stat.st_size}-{int(stat.st_mtime)}"
        tree = self.lab.path("var/lib/vz/template/unpacked", name)
        os.makedirs(os.path.dirname(tree), exist_ok=True)
        if not os.path.isdir(tree):
            with held(self.lab.path("run/lock/template.lock")):
                if not os.path.isdir(tree):
                    remove_tree(f"{tree}.part")
                    os.makedirs(f"{tree}.part")
                    _extract(template, f"{tree}.part")
                    os.rename(f"{tree}.part", tree)
        return tree

    def put_file(self, volume: str, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file into a stopped container's file system, following none of the guest's links out of it."""
        root, lower = f"{volume}/root", f"{volume}/lower"
        target = os.path.join(root, path)
        _make_parents(root, os.path.dirname(path), lower)
        if not os.path.realpath(os.path.dirname(target)).startswith(os.path.realpath(root)):
            raise PveError(f"'{path}' leads out of the container's file system")
        if os.path.lexists(target):
            os.unlink(target)
        with open(target, "w", encoding="utf-8") as handle:
            handle.write(text)
        os.chmod(target, mode)

    def host_keys(self, volume: str, hostname: str, names: tuple[str, ...]) -> dict[str, str]:
        """Make the container's SSH host keys, all at once; return their fingerprints."""
        _make_parents(f"{volume}/root", "etc/ssh", f"{volume}/lower")
        paths = {name: f"{volume}/root/etc/ssh/{name}" for name in names}
        running = [
            subprocess.Popen(["ssh-keygen", "-q", "-t", name.split("_")[2], "-N", "", "-C", f"root@{hostname}", "-f", path])
            for name, path in paths.items()
        ]
        codes = [each.wait() for each in running]
        if any(codes):
            raise PveError("command 'ssh-keygen' failed: exit code 1")
        shown = {name: _run("ssh-keygen", "-lf", f"{path}.pub").stdout for name, path in paths.items()}
        return {name: line.split()[1].removeprefix("SHA256:") for name, line in shown.items()}

    def used_bytes(self, volume: str) -> int:
        """Return what the files of a volume take, without the template it is laid over. du follows no links."""
        # Files may go while it counts, which it calls an error.
        counted = _run("du", "-sx", "--block-size=1", f"{volume}/root", check=False).stdout.split()
        return int(counted[0]) if counted else 0

    def copy(self, source: str, target: str) -> None:
        """Copy a volume or a snapshot of one."""
        os.makedirs(target, exist_ok=True)
        _run("cp", "-a", "--reflink=auto", f"{source}/root", f"{target}/")
        if os.path.islink(f"{source}/lower"):
            os.symlink(os.readlink(f"{source}/lower"), f"{target}/lower")

    def replace(self, volume: str, snapshot: str) -> None:
        """Return a volume to a snapshot of it."""
        remove_tree(f"{volume}/root")
        if os.path.islink(f"{volume}/lower"):
            os.unlink(f"{volume}/lower")
        self.copy(snapshot, volume)

    # -- archives --------------------------------------------------------------------------------------------------

    def write_archive(self, path: str, settings: dict[str, str], volume: str, compress: str, live: bool) -> int:
        """Write an archive of a container, of a running one from a snapshot; return its size before compression."""
        work = f"{path.removesuffix('.tar.dat')}.tmp"
        for name, text in settings.items():
            write_text(_made(os.path.join(work, name)), text)
        source = f"{volume}/.zfs/snapshot/vzdump" if live else volume
        try:
            if live:
                remove_tree(source)
                self.copy(volume, source)
            return self._tar(path, source, work, compress, *settings)
        finally:
            if live:
                remove_tree(source)

    def _tar(self, path: str, source: str, work: str, compress: str, *settings: str) -> int:
        """Write the tar of a volume that does not change meanwhile."""
        tree, before = f"{source}/root", []
        if os.path.islink(f"{source}/lower"):
            tree = f"{work}/root"
            os.makedirs(tree, exist_ok=True)
            layers = f"{source}/root:{os.path.realpath(f'{source}/lower')}"
            before = ["unshare", "-m", "sh", "-c", MERGED, "sh", layers, tree]
        packer = ["-I", COMPRESSORS[compress]] if compress in COMPRESSORS else []
        parts = ["-C", work, *settings, "-C", tree]
        skipped = [f"--exclude={each}" for each in NOT_ARCHIVED]
        # A file that changes or vanishes meanwhile (rc 1) is no failure.
        done = _run(*before, *TAR, "--totals", "--sparse", *packer, "-cpf", path, *parts, *skipped, ".", check=False)
        if done.returncode > 1:
            sys.stderr.write(done.stderr)
            raise PveError(f"command 'tar cpf {path}' failed: exit code {done.returncode}")
        return _total(done.stderr) or os.stat(path).st_size

    def read_member(self, path: str, name: str) -> str:
        """Return the text of one of an archive's settings."""
        done = _run("tar", "-xOf", path, "--occurrence=1", name, check=False)
        if done.returncode:
            raise PveError(f"archive '{path}' cannot be read: {_reason(done.stderr)}")
        return done.stdout

    def extract(self, path: str, volume: str) -> int:
        """Unpack an archive into a volume; return the size of the tar."""
        root = f"{volume}/root"
        os.makedirs(root, exist_ok=True)
        return _extract(path, root, "--exclude=./etc/vzdump")


# -- processes and files -------------------------------------------------------------------------------------------


def _run(*argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; with `check` fail in Proxmox's words when it fails."""
    # A daemon that keeps a pipe of ours would keep us waiting: lxc-start gives its own up once it is one.
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False)
    if check and done.returncode:
        sys.stderr.write(done.stderr)
        raise PveError(f"command '{' '.join(argv[:2])}' failed: exit code {done.returncode}")
    return done


def _extract(path: str, root: str, *options: str) -> int:
    """Unpack an archive or a template; return how many bytes tar has read."""
    done = _run(*TAR, "--totals", "-xpf", path, *options, "-C", root, check=False)
    if done.returncode:
        sys.stderr.write(f"{_reason(done.stderr)}\n")
        raise PveError(f"command 'tar xpf {path}' failed: exit code {done.returncode}")
    return _total(done.stderr)


def _total(text: str) -> int:
    """Return the number in tar's `Total bytes read: N (…)`."""
    found = re.search(r"Total bytes (?:read|written): (\d+)", text)
    return int(found[1]) if found else 0


def _reason(text: str) -> str:
    """Return the line of what a program said that tells why: its first, unless the disk was full."""
    lines = text.strip().split("\n")
    return next((line for line in lines if "No space left on device" in line), lines[0]) or "no reason given"


def _rootfs(volume: str) -> str:
    """Return a volume as lxc mounts it: in the container's own mount namespace, so that none is left outside."""
    if os.path.islink(f"{volume}/lower"):
        return f"overlay:{os.path.realpath(f'{volume}/lower')}:{volume}/root"
    return f"dir:{volume}/root"


def _made(path: str) -> str:
    """Return a path whose directory exists now."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    return path


def _make_parents(root: str, path: str, lower: str) -> None:
    """Make a directory in the upper layer, each with the rights it has in the lower: a new one hides those."""
    done = ""
    for part in path.split("/"):
        done = os.path.join(done, part)
        target, model = os.path.join(root, done), os.path.join(lower, done)
        if os.path.lexists(target):
            continue
        os.mkdir(target)
        if os.path.isdir(model):
            stat = os.stat(model)
            os.chown(target, stat.st_uid, stat.st_gid)
            os.chmod(target, stat.st_mode & 0o7777)
        elif done.endswith("/.ssh"):
            os.chmod(target, 0o700)


def _age_s(pid: str) -> int:
    """Return how long a process has run: field 22 of its stat, in ticks since the machine's start."""
    fields = read_text(f"/proc/{pid or 0}/stat").rpartition(")")[2].split()
    if not fields:
        return 0
    return max(1, int(time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")))
