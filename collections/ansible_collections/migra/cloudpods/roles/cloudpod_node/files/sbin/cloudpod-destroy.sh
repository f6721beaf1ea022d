#!/bin/bash -p
# migra.cloudpods: destroys one pod and frees its address.
set -euo pipefail
umask 077
PATH=/usr/sbin:/usr/bin:/sbin:/bin

SCRIPT_FILE=$(readlink -f -- "${BASH_SOURCE[0]}")
SCRIPT=${SCRIPT_FILE##*/} SCRIPT=${SCRIPT%.sh}
LIBRARY_DIR=${SCRIPT_FILE%/*}/../lib/cloudpods
# shellcheck source=library.bash
source "$LIBRARY_DIR/library.bash"

USAGE="$SCRIPT.sh <vmid> [--tenant ID] [--pod ID] [--run ID]"

DESTROYING='' UNFINISHED=''

# Succeed when a destroy of the container just read was ended: Proxmox wipes the conf first, and with it our marker, so that only
# the line, which goes last, says whose it was.
is_half_destroyed() {
  [[ ${CONF[lock]:-} == destroyed && -z $OWNER_TENANT ]] && has_line
}

# Refuse a container that is not in the pool and not what a killed create left, or that is another owner's or protected.
require_destroyable() {
  require_container_here
  read_container
  if is_unfinished_restore || is_unfinished; then UNFINISHED=yes; fi
  if is_half_destroyed; then OWNER_TENANT=$LINE_TENANT OWNER_POD=${OPTION[pod]:--}; fi
  [[ -n $UNFINISHED ]] || require_pool
  require_owner
  # Proxmox would say so only after we had stopped the container.
  [[ ${CONF[protection]:-0} != 1 ]] || fail 1 "can't remove CT $VMID - protection mode enabled"
}

destroy_container() {
  case ${CONF[lock]:-} in
    '' | mounted) ;;
    destroyed) ;; # a destroy that was killed: remove_container lifts the lock and finishes it
    *) [[ -n $UNFINISHED ]] || fail 75 "CT is locked (${CONF[lock]})" ;;
  esac
  DESTROYING=yes
  # shellcheck disable=SC2153
  remove_container "$STORAGE" || fail_as_node "pct destroy"
}

# Take away what a restore left of a pod besides its container.
forget_restore() {
  ! read_note || free_noted_disks || fail_as_node "pvesm free"
}

# shellcheck disable=SC2329  # finish calls it
clean_up() {
  [[ -n $DESTROYING ]] || return 0
  find_container
  if [[ -n $CONF_FILE ]]; then
    LEFT="container $VMID"
  elif ! free_address "${OPTION[tenant]:-}"; then
    LEFT="the line of $VMID in $IPAM_FILE"
  elif ! drop_note || ! drop_last; then
    LEFT="the notes of $VMID in $STATE_DIR"
  fi
}

main() {
  read_arguments 'tenant pod run' "$@"
  read_one_vmid
  begin_run
  local result=absent
  find_container
  if [[ -n $CONF_FILE ]]; then
    require_destroyable
    lift_stale_backup_lock
    TENANT=$OWNER_TENANT result=destroyed
    destroy_container
    forget_restore
  elif is_unfinished_restore; then
    require_owner
    TENANT=$OWNER_TENANT result=destroyed DESTROYING=yes
    forget_restore
  fi
  free_address "${OPTION[tenant]:-}" || fail_half_way "the line of $VMID in $IPAM_FILE could not be removed"
  drop_note || fail_half_way "the note of the restore of $VMID could not be removed"
  drop_last || fail_half_way "what the last job did to $VMID could not be forgotten"
  IP=$FREED_IP
  summarise VMID "$VMID"
  if [[ -n $IP ]]; then summarise IP "$IP"; fi
  summarise Result "$result"
  succeed "$result" "container $VMID is $result"
}

main "$@"
