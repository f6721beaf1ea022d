#!/bin/bash -p
# migra.cloudpods: says how pods are doing, as JSON, from cgroup and conf files, and asks network and guest if told to.
set -euo pipefail
umask 077
PATH=/usr/sbin:/usr/bin:/sbin:/bin

SCRIPT_FILE=$(readlink -f -- "${BASH_SOURCE[0]}")
SCRIPT=${SCRIPT_FILE##*/} SCRIPT=${SCRIPT%.sh}
LIBRARY_DIR=${SCRIPT_FILE%/*}/../lib/cloudpods
# shellcheck source=library.bash
source "$LIBRARY_DIR/library.bash"

USAGE="$SCRIPT.sh <vmid>... | --all [--reach] [--in-guest] [--guest-timeout S] [--memory-warning P] [--memory-critical P]
       [--swap-warning P] [--disk-warning P] [--disk-critical P]"

main() {
  read_arguments 'all! reach! in-guest! guest-timeout memory-warning memory-critical swap-warning disk-warning disk-critical' "$@"
  read_many_vmids
  read_node_name
  NODE=$NODE POOL=$POOL PVE_DIR=$PVE_DIR IPAM_FILE=$IPAM_FILE LOCK_DIR=$LOCK_DIR STATE_DIR=$STATE_DIR VZDUMP_LOCK=$VZDUMP_LOCK \
    NET_UNIX=$NET_UNIX CGROUP_DIR=$CGROUP_DIR REACH=${OPTION[reach]:-} IN_GUEST=${OPTION[in-guest]:-} GUEST_TIMEOUT=${OPTION[guest-timeout]:-} \
    MEMORY_WARNING=${OPTION[memory-warning]:-} MEMORY_CRITICAL=${OPTION[memory-critical]:-} \
    SWAP_WARNING=${OPTION[swap-warning]:-} DISK_WARNING=${OPTION[disk-warning]:-} DISK_CRITICAL=${OPTION[disk-critical]:-} \
    exec "$PYTHON" -I -S -B "$LIBRARY_DIR/report" health "${POSITIONAL[@]}"
}

main "$@"
