#!/bin/bash -p
# migra.cloudpods: ends one run that is at work on a pod.
set -euo pipefail
umask 077
PATH=/usr/sbin:/usr/bin:/sbin:/bin

SCRIPT_FILE=$(readlink -f -- "${BASH_SOURCE[0]}")
SCRIPT=${SCRIPT_FILE##*/} SCRIPT=${SCRIPT%.sh}
LIBRARY_DIR=${SCRIPT_FILE%/*}/../lib/cloudpods
# shellcheck source=library.bash
source "$LIBRARY_DIR/library.bash"

USAGE="$SCRIPT.sh <vmid> --run ID [--for-good] [--wait S] [--tenant ID] [--pod ID]"

# Refuse a vmid that is known to be somebody else's. The run that is to be ended may be making or removing the container, so
# there may be none, or no more of it than Proxmox writes first: then the note of a restore or the address file may tell.
require_no_other_owner() {
  forget_description
  find_container
  [[ $CONF_TYPE != qemu-server ]] || fail 77 "$VMID is a virtual machine, not a container of pool $POOL"
  # It may go while we look.
  if [[ -n $CONF_FILE ]]; then read_container || return 0; fi
  if conf_is_bare && [[ -z $OWNER_TENANT ]]; then
    if read_note; then
      OWNER_TENANT=$NOTE_TENANT OWNER_POD=$NOTE_POD
    elif has_line; then
      OWNER_TENANT=$LINE_TENANT OWNER_POD=${OPTION[pod]:--}
    fi
  fi
  TENANT=$OWNER_TENANT
  [[ -z $OWNER_TENANT ]] || require_owner
}

# The log's word for RESULT, and what happened in words.
declare -gA OUTCOME=([idle]=idle [ended]=cancelled [other]=other [stuck]=stuck)
declare -gA MESSAGE=(
  [idle]="no run holds the lock"
  [ended]="the run is ended"
  [other]="another run holds the lock"
  [stuck]="the run was told to end and holds the lock still"
)

summarise_end() {
  summarise VMID "$VMID"
  if ((${#SHOWN[@]} > 0)); then
    summarise Pid "${SHOWN[0]}"
    summarise Run "${SHOWN[1]}"
    summarise Script "${SHOWN[2]}"
  fi
  if ((${#SIGNALLED[@]} > 0)); then
    local -r pids="${!SIGNALLED[*]}"
    summarise Signalled "${pids// /,}"
  fi
  summarise Result "$RESULT"
}

# Say who it is that does not end, for somebody who has to look.
warn_of_holders() {
  find_lock_holders /proc/[0-9]*/fd
  printf 'warning: vmid %s is still held by %s\n' "$VMID" "${HOLDERS[*]:-nobody that can be seen}" >&2 || true
}

main() {
  read_arguments 'run for-good! wait tenant pod' "$@"
  read_one_vmid
  require_options run
  begin
  require_lock_dir
  require_no_other_owner
  if [[ -n ${OPTION[for-good]+given} ]]; then note_ended_run; fi
  end_run $((${OPTION[wait]:-30} * 1000))
  if [[ $RESULT == stuck ]]; then warn_of_holders; fi
  summarise_end
  succeed "${OUTCOME[$RESULT]}" "vmid $VMID: ${MESSAGE[$RESULT]}"
}

main "$@"
