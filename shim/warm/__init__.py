"""Ansible that starts warm: runs are forked from a process that has Ansible loaded, instead of loading it each time.

```
worker ── keeper.py starts ──▶ serve.py: Ansible loaded (preload.py), one thread, waits on a socket
   └─ run ── ansible-runner ──▶ stand_in.py, by the name ansible-playbook: hands over arguments, environment, folder, terminal
                                    ╎ socket: signals one way, the exit status the other
                             serve.py forks ──▶ guard.py: ends what the run leaves, or all of it when the stand-in dies
                                                  └─▶ become.py: is an ansible-playbook like any other
```

Whatever is not as it was when Ansible was loaded (same.py), the stand-in becomes the plain command.
"""
