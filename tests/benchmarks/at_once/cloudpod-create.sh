#!/usr/bin/env bash
# migra.cloudpods: a node that needs no time, so that what is measured is the way to it. It notes the pod and says that it is made.
set -euo pipefail

declare -A asked=([disk]=8 [swap]=512)
while (($#)); do
  [[ $1 != --auto-ip ]] || { shift && continue; }
  asked[${1#--}]=$2
  shift 2
done
# Each container another one, below the pool's addresses that nobody is given here.
: "${asked[ip]:=10.9.$((asked[vmid] / 250 % 250)).$((asked[vmid] % 250 + 1))}"
cat >"${BASH_SOURCE[0]%/*}/${asked[vmid]}.json" <<JSON
{"vmid": ${asked[vmid]}, "exists": true, "in_pool": true, "node": null, "status": "running", "lock": null, "lock_stale": false,
 "unfinished": false, "busy": null, "owner": {"tenant": "${asked[tenant]}", "pod": "${asked[pod]:--}"}, "hostname": "${asked[host]}",
 "ip": "${asked[ip]}", "prefix": 24, "gateway": "10.1.10.1", "mac": "BC:24:11:00:00:01", "bridge": "vmbr0", "storage": "local",
 "disk_gb": ${asked[disk]}, "cores": ${asked[cores]}, "memory_mb": ${asked[mem]}, "swap_mb": ${asked[swap]}, "onboot": true,
 "protection": false, "unprivileged": true, "pending": {}, "host_key": null, "restored": null, "snapshots": [], "config": {}}
JSON
printf '%-9s: %s\n' VMID "${asked[vmid]}" IP "${asked[ip]}" Status running Result created
