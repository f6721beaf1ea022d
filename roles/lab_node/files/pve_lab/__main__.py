"""Run one of the lab's commands: `python -IS __main__.py <lab directory> <program> [arguments]`."""

from __future__ import annotations

import os
import sys

# Run as a file with -I -S (no site, no PYTHONPATH: half of a short-lived Python's start-up), so the package's own
# parent is put on the path by hand.
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def main(root: str, program: str, argv: list[str]) -> int:
    """Run the program of that name; return its exit code."""
    if program == "pct":
        from pve_lab import cli, pct

        return cli.run("pct", pct.COMMANDS, root, argv)
    if program == "pvesm":
        from pve_lab import cli, pvesm

        return cli.run("pvesm", pvesm.COMMANDS, root, argv)
    if program == "vzdump":
        from pve_lab import cli, vzdump

        return cli.run_command("vzdump", vzdump.COMMAND, root, argv)
    if program == "lab-switch":
        from pve_lab import switches as chosen
    elif program == "zfs":
        from pve_lab import zfs as chosen
    elif program == "lab-host":
        from pve_lab import host as chosen
    elif program == "lab-init":
        from pve_lab import layout

        return layout.main(argv)
    else:
        sys.stderr.write(f"no such program: {program}\n")
        return 127
    return chosen.main(root, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
