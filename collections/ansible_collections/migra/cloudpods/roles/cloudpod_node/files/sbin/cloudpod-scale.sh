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

USAGE="$SCRIPT.sh <vmid> --cores N --mem MB [--swap MB] [--tenant ID] [--pod ID] [--run ID]"

# Succeed when the container has the wanted size. Proxmox's defaults stand where its conf is silent.
has_wanted_size() {
  local -r swap=${CONF[swap]:-512}
  [[ ${CONF[cores]:-all} == "${OPTION[cores]}" && ${CONF[memory]:-512} == "${OPTION[mem]}" ]] &&
    [[ ${OPTION[swap]:-$swap} == "$swap" && " ${PENDING[*]} " != *\ @(cores|memory|swap)\ * ]]
}

set_size() {
  local -a command=(pct set "$VMID" --cores "${OPTION[cores]}" --memory "${OPTION[mem]}")
  if [[ -n ${OPTION[swap]+given} ]]; then command+=(--swap "${OPTION[swap]}"); fi
  node_command "${command[@]}" || fail_as_node "pct set"
  read_container
}

main() {
  read_arguments 'cores mem swap tenant pod run' "$@"
  read_one_vmid
  require_options cores mem
  begin_run
  require_our_container
  TENANT=$OWNER_TENANT
  local result=unchanged
  if ! has_wanted_size; then
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
