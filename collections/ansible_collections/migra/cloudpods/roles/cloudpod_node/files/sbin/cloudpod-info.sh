#!/bin/bash -p
# migra.cloudpods: says what stands on this node about pods, as JSON.
set -euo pipefail
umask 077
PATH=/usr/sbin:/usr/bin:/sbin:/bin

SCRIPT_FILE=$(readlink -f -- "${BASH_SOURCE[0]}")
SCRIPT=${SCRIPT_FILE##*/} SCRIPT=${SCRIPT%.sh}
LIBRARY_DIR=${SCRIPT_FILE%/*}/../lib/cloudpods
# shellcheck source=library.bash
source "$LIBRARY_DIR/library.bash"

USAGE="$SCRIPT.sh <vmid>... | --all  [--backups]
       $SCRIPT.sh --node"

main() {
  local what=info
  read_arguments 'all! backups! node!' "$@"
  if [[ -n ${OPTION[node]+given} ]]; then
    ((${#POSITIONAL[@]} == 0 && ${#OPTION[@]} == 1)) || refuse_arguments "node: nothing may be given beside it"
    what=node
  else
    read_many_vmids
  fi
  read_node_name
  local archives_of=''
  if [[ -n ${OPTION[backups]+given} ]]; then archives_of=$BACKUP_STORAGE; fi
  # shellcheck disable=SC2153
  NODE=$NODE POOL=$POOL PVE_DIR=$PVE_DIR IPAM_FILE=$IPAM_FILE LOCK_DIR=$LOCK_DIR STATE_DIR=$STATE_DIR VZDUMP_LOCK=$VZDUMP_LOCK \
    NET_UNIX=$NET_UNIX CGROUP_DIR=$CGROUP_DIR ARCHIVES_OF=$archives_of PROC_DIR=$PROC_DIR STORAGE=$STORAGE VERSION=$SCRIPTS_VERSION \
    exec "$PYTHON" -I -S -B "$LIBRARY_DIR/report" "$what" "${POSITIONAL[@]}"
}

main "$@"
