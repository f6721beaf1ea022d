#!/bin/bash -p
# migra.cloudpods: gives one pod other cores, memory or swap.
set -euo pipefail
umask 077
PATH=/usr/sbin:/usr/bin:/sbin:/bin

SCRIPT_FILE=$(readlink -f -- "${BASH_SOURCE[0]}")
SCRIPT=${SCRIPT_FILE##*/} SCRIPT=${SCRIPT%.sh}
LIBRARY_DIR=${SCRIPT_FILE%/*}/../lib/cloudpods
# shellcheck source=library.bash
source "$LIBRARY_DIR/library.bash"

USAGE="$SCRIPT.sh <vmid> --cores N --mem MB [--swap MB] [--force] [--tenant ID] [--pod ID] [--run ID]"

# Succeed when the container has the wanted size. Proxmox's defaults stand where its conf is silent.
has_wanted_size() {
  local -r swap=${CONF[swap]:-512}
  [[ ${CONF[cores]:-all} == "${OPTION[cores]}" && ${CONF[memory]:-512} == "${OPTION[mem]}" ]] &&
    [[ ${OPTION[swap]:-$swap} == "$swap" && " ${PENDING[*]} " != *\ @(cores|memory|swap)\ * ]]
}

# Refuse to take memory away that the pod's processes hold: the kernel would kill some of them. What it keeps of files is not counted.
require_memory_unused() {
  [[ -z ${OPTION[force]+given} && ${OPTION[mem]} -lt ${CONF[memory]:-512} ]] && is_running || return 0
  local -a used
  CGROUP_DIR=$CGROUP_DIR lines_of used "$PYTHON" -I -S -B "$LIBRARY_DIR/report" memory "$VMID"
  ((${used:-0} > OPTION[mem] * 1024 * 1024)) || return 0
  fail 73 "container $VMID uses $((used / 1024 / 1024)) MiB of memory, more than the ${OPTION[mem]} asked for: its processes would be killed; give --force to do it all the same"
}

set_size() {
  local -a command=(pct set "$VMID" --cores "${OPTION[cores]}" --memory "${OPTION[mem]}")
  if [[ -n ${OPTION[swap]+given} ]]; then command+=(--swap "${OPTION[swap]}"); fi
  node_command "${command[@]}" || fail_as_node "pct set"
  read_container
}

main() {
  read_arguments 'cores mem swap force! tenant pod run' "$@"
  read_one_vmid
  require_options cores mem
  begin_run
  require_our_container
  TENANT=$OWNER_TENANT
  local result=unchanged
  if ! has_wanted_size; then
    require_memory_unused
    set_size
    result=scaled
  fi
  summarise VMID "$VMID"
  summarise Cores "${OPTION[cores]}"
  summarise Memory "${OPTION[mem]}"
  summarise Swap "${OPTION[swap]:-${CONF[swap]:-512}}"
  if ((${#PENDING[@]} > 0)); then
    local IFS=,
    summarise Pending "${PENDING[*]}"
  fi
  summarise Result "$result"
  succeed "$result" "container $VMID has ${OPTION[cores]} cores and ${OPTION[mem]} MiB"
}

main "$@"
