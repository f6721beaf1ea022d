# Copyright: (c) 2026, MigraTeck
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The only place that starts a process on a node, and the only one that reads what a script prints.

The contract: ``<script_dir>/cloudpod-*.sh``, exit codes of sysexits, a ``Key      : value`` summary or JSON on stdout,
``Error``, ``Retryable`` and ``Left`` as the last lines of stderr, before them ``Taken`` when somebody else has a new pod's vmid or address.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import pathlib
import re
import signal
import subprocess
import typing as t

from ansible_collections.migra.cloudpods.plugins.module_utils._errors import NOTHING, ScriptFailed

MARKER = b'# migra.cloudpods:'
INFO = 'cloudpod-info.sh'

# rc → (what it means, may the same call succeed later, was anything done before it).
EXIT_CODES = {
    1: ('a command of the node failed', False, None),
    64: ('the script refused the arguments', False, NOTHING),
    66: ('there is no such container', False, NOTHING),
    69: ('the node lacks something', False, NOTHING),
    73: ('the vmid or the address is taken', False, NOTHING),
    75: ('try again later', True, NOTHING),
    77: ('refused: not in the pool, or of another owner', False, NOTHING),
    129: ('ended by SIGHUP', True, None),
    130: ('ended by SIGINT', True, None),
    137: ('ended by SIGKILL', True, None),
    143: ('ended by SIGTERM', True, None),
}
TAKEN_RC = 73
UNKNOWN_LEFT = 'unknown: look with cloudpod_info before trying again'
STILL_RUNNING = 'the script may still be running on the node; it holds the lock of its vmid until it ends'
GRACE_S = 15
TAIL_CHARS = 2000

_LINE = re.compile(r'^[ \t]*([A-Za-z][A-Za-z0-9 _./-]{0,39}?)[ \t]*:(?:[ \t]+(.*?))?[ \t\r]*$', re.MULTILINE)
_WARNING = re.compile(r'^warning: (.+?)\s*$', re.MULTILINE)
_IP = re.compile(r'IP\s*:\s*([0-9.]+)')


class Reply(t.NamedTuple):
    """What a script answered: its whole command, exit code and output."""

    command: list[str]
    rc: int
    stdout: str
    stderr: str


class _TimedOut(Exception):
    """Raised by the alarm in the middle of waiting."""


def parse_summary(text: str) -> dict[str, str]:
    """Given a script's output, return its ``Key : value`` lines as a dict.

    The last of two equal keys wins: the summary is printed last, after whatever came before it.
    """
    return {key: value or '' for key, value in _LINE.findall(text)}


def parse_warnings(text: str) -> list[str]:
    """Given what a script wrote on stderr, return its own warnings, which are about something that it did not do."""
    return _WARNING.findall(text)


def parse_ip(text: str) -> str | None:
    """Given a create script's output, return the address of its ``IP : 10.1.10.91`` line, or None.

    The pattern is the one of the master spec. The last valid address counts.
    """
    for found in reversed(_IP.findall(text)):
        with contextlib.suppress(ValueError):
            return str(ipaddress.IPv4Address(found))
    return None


def parse_json(reply: Reply) -> dict:
    """Given the reply of cloudpod-info.sh or -health.sh, return its object, which has a list of rows in ``pods``."""
    try:
        document = json.loads(reply.stdout)
        if isinstance(document['pods'], list) and all(isinstance(row, dict) for row in document['pods']):
            return document
    except (ValueError, KeyError, TypeError):
        pass
    raise _failure(reply, f'{_name(reply.command)} did not answer with the JSON object of the contract')


def failure_of(reply: Reply, ours: bool) -> ScriptFailed:
    """Given a reply with an exit code other than zero, return the error it means.

    The exit codes of a site's own script mean nothing, so such a failure is never retryable and what it left is unknown.
    """
    said = parse_summary(reply.stderr)
    meaning, retryable, left = EXIT_CODES.get(reply.rc, ('', reply.rc < 0, None)) if ours else ('', False, None)
    if ours and said.get('Retryable') in ('yes', 'no'):
        retryable = said['Retryable'] == 'yes'
    reason = _sudo_trouble(reply) or said.get('Error') or _last_line(reply.stderr) or _last_line(reply.stdout) or meaning
    if _sudo_trouble(reply):
        left = NOTHING
    msg = '{}: {}'.format(_name(reply.command), reason or f'ended with {reply.rc} and said nothing')
    taken = {'taken': said['Taken']} if ours and reply.rc == TAKEN_RC and said.get('Taken') in ('vmid', 'ip') else {}
    return _failure(reply, msg, retryable, said.get('Left') or left or UNKNOWN_LEFT, **taken)


def tail(text: str, limit: int = TAIL_CHARS) -> str:
    """Return the end of ``text``, in whole lines where there are any, at most ``limit`` characters."""
    text = text.strip()
    return text if len(text) <= limit else '…' + text[-limit:].split('\n', 1)[-1]


def _failure(reply: Reply, msg: str, retryable: bool = False, left: str = NOTHING, **details: str) -> ScriptFailed:
    output = {'stdout': tail(reply.stdout), 'stderr': tail(reply.stderr)}
    return ScriptFailed(msg, retryable, left, rc=reply.rc, cmd=' '.join(reply.command), **output, **details)


def _name(command: list[str]) -> str:
    return next((pathlib.PurePath(word).name for word in command if word.startswith('/')), command[0])


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ''


def _sudo_trouble(reply: Reply) -> str:
    """Return what sudo itself complained about, with what to do, or an empty string."""
    if reply.command[0] != 'sudo' or not reply.stderr.startswith('sudo:'):
        return ''
    return f'{reply.stderr.splitlines()[0]} (the role migra.cloudpods.cloudpod_node installs the rule for it)'


@contextlib.contextmanager
def _alarm(seconds: int) -> t.Iterator[None]:
    """Raise _TimedOut inside the block when ``seconds`` are over. run_command has no timeout of its own."""

    def ring(_signum: int, _frame: object) -> None:
        raise _TimedOut()

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Scripts:
    """The scripts of one node.

    ``run_command`` is AnsibleModule's; a unit test hands in its own.
    """

    def __init__(self, run_command: t.Callable, script_dir: str, sudo: bool, timeout_s: int) -> None:
        self._run_command = run_command
        self._dir = pathlib.Path(script_dir)
        self._sudo = sudo
        self._timeout_s = timeout_s

    def is_ours(self, name: str) -> bool:
        """Return whether the script bears our marker. A site's own knows only the master spec's options."""
        return MARKER in self._head(name)

    def can_look(self) -> bool:
        """Return whether our cloudpod-info.sh is there, so that the state can be read before it is changed."""
        return self._path(INFO).exists() and self.is_ours(INFO)

    def command(self, name: str, arguments: list[str]) -> list[str]:
        """Return the whole argument vector, ``sudo -n`` in front where it is wanted."""
        return (['sudo', '-n'] if self._sudo else []) + [str(self._path(name))] + arguments

    def state(self, name: str, arguments: list[str]) -> dict:
        """Return whether a script is there, is ours, and may be called with these arguments. It is not run."""
        path = self._path(name)
        if not path.exists():
            return {'name': name, 'present': False, 'ours': False, 'callable': False}
        allowed = self._start(['sudo', '-n', '-l', str(path), *arguments]).rc == 0 if self._sudo else os.access(path, os.X_OK)
        return {'name': name, 'present': True, 'ours': self.is_ours(name), 'callable': allowed}

    def run(self, name: str, arguments: list[str], may_fail: bool = False) -> Reply:
        """Run a script and return its reply; raise ScriptFailed unless it ended with 0, or ``may_fail`` is true."""
        ours = self.is_ours(name)
        reply = self._start(self.command(name, arguments))
        if reply.rc != 0 and not may_fail:
            raise failure_of(reply, ours)
        return reply

    def _path(self, name: str) -> pathlib.Path:
        return self._dir / name

    def _head(self, name: str) -> bytes:
        try:
            with self._path(name).open('rb') as script:
                return b''.join(script.readline(1024) for dummy in range(5))
        except FileNotFoundError:
            raise ScriptFailed(f'{self._path(name)} is not on this node: install it with the role migra.cloudpods.cloudpod_node, or set script_dir') from None
        except OSError as exc:
            # Whether it is ours decides which guards can be sent, so guessing would not be safe.
            raise ScriptFailed(f'{self._path(name)} cannot be read to see whose it is: {exc.strerror}') from None

    def _start(self, command: list[str]) -> Reply:
        started: list[subprocess.Popen] = []
        try:
            with _alarm(self._timeout_s):
                # Without expand_user_and_vars=False a value such as $HOME would be expanded here.
                rc, stdout, stderr = self._run_command(
                    command,
                    expand_user_and_vars=False,
                    handle_exceptions=False,
                    environ_update={'LC_ALL': 'C.UTF-8', 'LANG': 'C.UTF-8'},
                    before_communicate_callback=started.append,
                )
        except _TimedOut:
            raise self._timed_out(command, started) from None
        except OSError as exc:
            raise ScriptFailed(f'{command[0]} cannot be started: {exc.strerror}', cmd=' '.join(command)) from None
        return Reply(command, rc, stdout, stderr)

    def _timed_out(self, command: list[str], started: list[subprocess.Popen]) -> ScriptFailed:
        """Ask the script to end, give it time to clean up, and return the error.

        Behind sudo the process is root's and cannot be signalled from here; then the lock on the node tells when it is over.
        """
        stdout = stderr = b''
        left = STILL_RUNNING
        for process in started:
            with contextlib.suppress(OSError, ValueError, subprocess.TimeoutExpired):
                process.terminate()
                stdout, stderr = process.communicate(timeout=GRACE_S)
                left = parse_summary(stderr.decode(errors='replace')).get('Left', UNKNOWN_LEFT)
        reply = Reply(command, 124, stdout.decode(errors='replace'), stderr.decode(errors='replace'))
        return _failure(reply, f'{_name(command)} did not end within {self._timeout_s} s', True, left)
