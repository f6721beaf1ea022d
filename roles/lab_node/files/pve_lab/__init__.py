"""A stand-in for the commands of a Proxmox node (pct, vzdump, pvesm), keeping real state below one directory.

| file | about |
|---|---|
| `__main__.py` | which command was called |
| `cli.py`, `options.py`, `formats.py` | command lines as Proxmox reads and refuses them |
| `lab.py`, `files.py`, `errors.py` | where things are, locks and atomic writes, failures |
| `conf.py`, `normalise.py`, `pools.py` | container files, values as they are stored, `user.cfg` |
| `storage.py`, `volumes.py` | storages, the volumes of containers |
| `simulated.py`, `runtime.py` | the backend that simulates: what runs stands in files |
| `lxc.py`, `lxc_config.py`, `cgroups.py`, `host.py` | the backend with real containers, and what it needs of the machine |
| `pct*.py`, `vzdump.py`, `backups.py`, `archive.py`, `retention.py`, `pvesm.py` | the commands |
| `switches.py`, `layout.py` | delays and failures on demand; laying the tree |

Startup time matters (scripts call pct several times per run): no typing, pathlib, dataclasses, argparse or subprocess
on the way to a pct command.
"""
