#!/bin/bash -p
# migra.cloudpods: gives one pod the data of an archive, or makes a new pod from one.
set -euo pipefail
umask 077
PATH=/usr/sbin:/usr/bin:/sbin:/bin

SCRIPT_FILE=$(readlink -f -- "${BASH_SOURCE[0]}")
SCRIPT=${SCRIPT_FILE##*/} SCRIPT=${SCRIPT%.sh}
LIBRARY_DIR=${SCRIPT_FILE%/*}/../lib/cloudpods
# shellcheck source=library.bash
source "$LIBRARY_DIR/library.bash"

USAGE="$SCRIPT.sh <vmid> --archive VOLID --tenant ID --pod ID [--from-pod ID] [--force] [--run ID]
       $SCRIPT.sh <vmid> --archive VOLID --tenant ID --pod ID --from-pod ID --host NAME (--ip A.B.C.D | --auto-ip) \
[--bridge B] [--storage S] [--cores N] [--mem MB] [--swap MB] [--gw IP] [--isolated] [--run ID]"

read_restore_arguments() {
  read_arguments 'archive tenant pod from-pod force! host ip auto-ip! bridge storage cores mem swap gw isolated! run' "$@"
  read_one_vmid
  require_options archive tenant pod
  ARCHIVE=${OPTION[archive]} TENANT=${OPTION[tenant]} POD=${OPTION[pod]} FROM_POD=${OPTION[from-pod]:-${OPTION[pod]}}
  HOST=${OPTION[host]:-} JOB=${OPTION[run]:--} JOB=${JOB%.*}
  POD_GATEWAY=${OPTION[gw]:-$GATEWAY} POD_BRIDGE=${OPTION[bridge]:-$BRIDGE} POD_STORAGE=${OPTION[storage]:-$STORAGE}
  if [[ -n $HOST ]]; then check_new_pod; else check_in_place; fi
}

check_new_pod() {
  require_options from-pod
  [[ -z ${OPTION[force]+given} ]] || refuse_arguments "force: a new pod takes nobody's place"
  check_address_choice
}

check_in_place() {
  local name
  for name in ip auto-ip bridge storage cores mem swap gw isolated; do
    [[ -z ${OPTION[$name]+given} ]] || refuse_arguments "$name: only for a new pod, which --host names"
  done
  [[ -n ${OPTION[from-pod]+given} || $ARCHIVE == *":backup/vzdump-lxc-$VMID-"* ]] ||
    refuse_arguments "archive: is not of vmid $VMID; --from-pod is required to name the pod it is of"
}

# Succeed when this job's restore stands already, whole. Needs the container just found.
is_done_by_job() {
  [[ $JOB != - && $CONF_TYPE == lxc && $CONF_NODE == "$NODE" ]] || return 1
  read_container
  [[ $OWNER_TENANT == "$TENANT" && $OWNER_POD == "$POD" && $RESTORE_JOB == "$JOB" && $RESTORE_ARCHIVE == "$ARCHIVE" ]] &&
    [[ -z ${CONF[lock]:-} || ${CONF[lock]} == mounted ]] && in_pool && ! is_unfinished_restore && ! is_unfinished
}

# -- a pod that is not there -----------------------------------------------------------------------------------------

restore_as_new() {
  make_vmid_free
  test_archive "$ARCHIVE"
  read_archived_size
  require_room "$ARCHIVED_GB"
  reserve_address "$HOST" "$TENANT" "$POD_GATEWAY" "${OPTION[ip]:-}"
  local onboot=1
  new_interface
  if [[ -n ${OPTION[isolated]+given} ]]; then NET0+=,link_down=1 onboot=0; fi
  local -a command=(--net0 "$NET0" --unique 1 --onboot "$onboot")
  if [[ -n ${OPTION[cores]+given} ]]; then command+=(--cores "${OPTION[cores]}"); fi
  if [[ -n ${OPTION[mem]+given} ]]; then command+=(--memory "${OPTION[mem]}"); fi
  if [[ -n ${OPTION[swap]+given} ]]; then command+=(--swap "${OPTION[swap]}"); fi
  unpack_pod "${command[@]}"
  bring_up_pod "restored job=$JOB archive=$ARCHIVE"
  activate_address
}

# Given options of pct restore, make the container. The archive's protection is the pod's own: what has it could never be
# removed again.
unpack_pod() {
  DESCRIPTION=()
  describe "cloudpod tenant=$TENANT pod=$POD" "restored job=$JOB archive=$ARCHIVE"
  make_container pct restore "$VMID" "$ARCHIVE" --storage "$POD_STORAGE" --pool "$POOL" \
    --hostname "$HOST" --description "$WANTED_DESCRIPTION" --protection 0 "$@"
  find_container
  read_container
  read_foreign_keys
  drop_keys "${FOREIGN_KEYS[@]}"
}

# Leave in FOREIGN_KEYS what the conf in CONF has from its archive and this pod may not have: interfaces, whose addresses are
# another's, and of another pod's archive also what reaches into the node.
read_foreign_keys() {
  local name
  FOREIGN_KEYS=()
  for name in "${!CONF[@]}"; do
    case $name in
      net0) ;;
      net[0-9]*) FOREIGN_KEYS+=("$name") ;;
      hookscript | startup | dev[0-9]*) [[ $FROM_POD == "$POD" ]] || FOREIGN_KEYS+=("$name") ;;
      mp[0-9]*) [[ $FROM_POD == "$POD" || ! ${CONF[$name]} =~ ^(volume=)?/ ]] || FOREIGN_KEYS+=("$name") ;;
    esac
  done
}

# Given keys of the conf that came with the archive, take them away, saying so.
drop_keys() {
  (($# > 0)) || return 0
  local IFS=,
  printf 'warning: not taken from the archive, since this pod has no such thing: %s\n' "$*" >&2 || true
  node_answer pct set "$VMID" --delete "$*" || fail_as_node "pct set"
}

# The pod's container is gone, and no note says what it was: make it anew, as its archive says, with the address that is
# still its own or else the one it had in the archive.
restore_absent() {
  test_archive "$ARCHIVE"
  require_unpacked_room
  if has_line && [[ $LINE_STATE == active && $LINE_TENANT == "$TENANT" ]]; then
    IP=$LINE_IP HOST=$LINE_HOST
    read_own_interface
    note_archived_pod
    WAS=running
    replace_container
    finish_restored
    return
  fi
  HOST=${ARCHIVED[hostname]:-CT$VMID}
  [[ ${ARCHIVED[net0]:-} =~ (^|,)ip=($ADDRESS)/ ]] ||
    fail 69 "archive $ARCHIVE names no address: restore it as a new pod"
  reserve_address "$HOST" "$TENANT" "$POD_GATEWAY" "${BASH_REMATCH[2]}"
  read_own_interface
  unpack_pod --net0 "$NET0"
  bring_up_pod "restored job=$JOB archive=$ARCHIVE"
  activate_address
}

# Leave in NET0 the pod's interface: that of its own archive with the address that is its own now. Another pod's archive
# knows nothing of it.
read_own_interface() {
  new_interface
  [[ $FROM_POD == "$POD" && ${ARCHIVED[net0]:-} =~ ^(.*,)?ip=$ADDRESS(/.*)$ ]] || return 0
  NET0=${BASH_REMATCH[1]}ip=$IP${BASH_REMATCH[6]}
}

# Note as the pod what the archive says it was.
note_archived_pod() {
  local name
  CONF=() DESCRIPTION=()
  for name in "${!ARCHIVED[@]}"; do CONF[$name]=${ARCHIVED[$name]}; done
  read_foreign_keys
  for name in lock parent protection "${FOREIGN_KEYS[@]}"; do unset "CONF[$name]"; done
  CONF[net0]=$NET0 CONF[hostname]=$HOST CONF[rootfs]=$POD_STORAGE:none${CONF[rootfs]:+,size=${CONF[rootfs]##*size=}}
  keep_firewall
  write_note running yes
}

# -- a pod that is there, or that a restore left unfinished (place.bash) -------------------------------------------------

restore_in_place() {
  find_container
  if [[ -n $CONF_FILE ]]; then
    require_container_here
    read_container
  fi
  if is_unfinished_restore; then
    take_up
  elif [[ -n $CONF_FILE ]] && ! remove_unfinished; then
    require_pool
    require_owner
    restore_over
  else
    restore_absent
  fi
}

# shellcheck disable=SC2329  # finish calls it
clean_up() {
  if [[ -n $DOING ]]; then
    leave_pod_as_good_as_possible
    return
  fi
  undo_new_pod
  # Refused before anything was done: what an earlier run left is still there to be said.
  if [[ -z ${OPTION[host]+given} ]]; then say_unfinished; fi
}

main() {
  read_restore_arguments "$@"
  begin_run
  local result=restored
  find_container
  if [[ -n $CONF_FILE ]] && is_done_by_job; then
    result=exists HOST=${CONF[hostname]:-CT$VMID}
    read_address
  else
    find_archive "$ARCHIVE"
    require_archive_of "$ARCHIVE" "$TENANT" "$FROM_POD"
    if [[ -n $HOST ]]; then restore_as_new; else restore_in_place; fi
  fi
  summarise_owner
  summarise Archive "$ARCHIVE"
  summarise_guest "$result"
  succeed "$result" "pod $VMID has the data of $ARCHIVE"
}

main "$@"
