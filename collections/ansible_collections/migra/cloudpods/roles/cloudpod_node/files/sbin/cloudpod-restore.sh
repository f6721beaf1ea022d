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

# How far a restore over a pod has come, for clean_up: noted, restoring or starting; and whether the pod is to run.
DOING='' WAS=running

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
    [[ $RESTORE_STEP == restored ]] && in_pool && ! is_unfinished
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
  local -a command=("restored job=$JOB archive=$ARCHIVE" --net0 "$NET0" --unique 1 --onboot "$onboot")
  # The archive's protection is the pod's own: a drill's copy that has it could never be removed.
  if [[ -n ${OPTION[isolated]+given} ]]; then command+=(--protection 0); fi
  if [[ -n ${OPTION[cores]+given} ]]; then command+=(--cores "${OPTION[cores]}"); fi
  if [[ -n ${OPTION[mem]+given} ]]; then command+=(--memory "${OPTION[mem]}"); fi
  if [[ -n ${OPTION[swap]+given} ]]; then command+=(--swap "${OPTION[swap]}"); fi
  isolate_further_interfaces
  unpack_pod "${command[@]}" "${FURTHER[@]}"
  bring_up_pod "restored job=$JOB archive=$ARCHIVE"
  activate_address
}

# Leave in FURTHER the options that take the link from every interface of the archive but the first: their addresses are
# the other pod's.
isolate_further_interfaces() {
  local name value
  FURTHER=()
  for name in "${!ARCHIVED[@]}"; do
    [[ $name == net[1-9]* ]] || continue
    value=$(without_property hwaddr "$(without_property link_down "${ARCHIVED[$name]}")")
    FURTHER+=("--$name" "$value,link_down=1")
    printf 'warning: the link of %s is down: its address is that of the pod of the archive\n' "$name" >&2 || true
  done
}

# Given a key and a comma list, print the list without that key.
without_property() {
  local part kept=''
  local -a parts
  IFS=, read -r -a parts <<<"$2"
  for part in "${parts[@]}"; do
    if [[ $part != "$1="* ]]; then kept+=,$part; fi
  done
  printf '%s' "${kept#,}"
}

# Given the line about the restore and options of pct restore, make the container.
unpack_pod() {
  local -r step=$1
  shift
  DESCRIPTION=()
  describe "cloudpod tenant=$TENANT pod=$POD" "$step"
  make_container pct restore "$VMID" "$ARCHIVE" --storage "$POD_STORAGE" --pool "$POOL" \
    --hostname "$HOST" --description "$WANTED_DESCRIPTION" "$@"
}

# The pod's container is gone: make it anew, with the address that is still its own or else the one it had in the archive.
restore_absent() {
  test_archive "$ARCHIVE"
  require_unpacked_room
  local step="unpacked job=$JOB archive=$ARCHIVE was=running"
  if has_line && [[ $LINE_STATE == active && $LINE_TENANT == "$TENANT" ]]; then
    IP=$LINE_IP HOST=$LINE_HOST
  else
    HOST=${ARCHIVED[hostname]:-CT$VMID}
    [[ ${ARCHIVED[net0]:-} =~ (^|,)ip=($ADDRESS)/ ]] ||
      fail 69 "archive $ARCHIVE names no address: restore it as a new pod"
    reserve_address "$HOST" "$TENANT" "$POD_GATEWAY" "${BASH_REMATCH[2]}"
    step="restored job=$JOB archive=$ARCHIVE"
  fi
  read_own_interface
  unpack_pod "$step" --net0 "$NET0"
  bring_up_pod "restored job=$JOB archive=$ARCHIVE"
  if [[ -n $RESERVED ]]; then activate_address; fi
}

# Leave in NET0 the pod's interface: that of its own archive with the address that is its own now. Another pod's archive
# knows nothing of it.
read_own_interface() {
  new_interface
  [[ $FROM_POD == "$POD" && ${ARCHIVED[net0]:-} =~ ^(.*,)?ip=$ADDRESS(/.*)$ ]] || return 0
  NET0=${BASH_REMATCH[1]}ip=$IP${BASH_REMATCH[6]}
}

# -- a pod that is there ---------------------------------------------------------------------------------------------

restore_in_place() {
  find_container
  if [[ -n $CONF_FILE ]]; then
    require_container_here
    if ! remove_unfinished; then
      require_pool
      require_owner
      restore_over
      return
    fi
  fi
  restore_absent
}

restore_over() {
  HOST=${CONF[hostname]:-CT$VMID}
  read_address
  read_state
  WAS=${RESTORE_WAS:-$STATE}
  if [[ $RESTORE_STEP == unpacked && $RESTORE_JOB == "$JOB" && $RESTORE_ARCHIVE == "$ARCHIVE" && -z ${CONF[lock]:-} ]]; then
    start_restored # an earlier run of this job was ended with only that left to do
    return
  fi
  require_replaceable
  test_archive "$ARCHIVE"
  POD_STORAGE=${CONF[rootfs]#volume=} POD_STORAGE=${POD_STORAGE%%:*}
  require_unpacked_room
  replace_container
  start_restored
}

# Refuse a pod that is not to be replaced now. The lock of an earlier restore of this pod, ended by force, is no hindrance:
# nobody else holds the run lock.
require_replaceable() {
  [[ ${CONF[protection]:-0} != 1 ]] || fail 1 "can't restore over CT $VMID - protection mode enabled"
  restore_was_killed || require_at_rest
  [[ -n ${OPTION[force]+given} ]] ||
    fail 73 "container $VMID exists: a restore loses what was written since the archive was made; --force allows it"
  [[ -n ${CONF[rootfs]:-} ]] || fail 1 "container $VMID has no root disk"
}

require_unpacked_room() {
  require_storage "$POD_STORAGE" rootdir
  # What the old disks take is not counted: Proxmox makes the new ones before it frees them.
  ((FREE_KIB >= UNPACKED_KIB)) ||
    fail 69 "storage '$POD_STORAGE' has $((FREE_KIB / 1024)) MB free, archive $ARCHIVE unpacked takes $((UNPACKED_KIB / 1024 + 1)) MB"
}

# Proxmox's way: new disks, the old ones freed, then the archive unpacked. What is to come is noted in the description
# first, so that whoever comes after a killed run knows what was under way and whether the pod ran.
replace_container() {
  local -r marker="cloudpod tenant=$TENANT pod=$POD"
  local step="restored job=$JOB archive=$ARCHIVE"
  if [[ $WAS == running ]]; then step="unpacked job=$JOB archive=$ARCHIVE was=running"; fi
  if [[ ${CONF[lock]:-} == create ]]; then
    node_answer pct unlock "$VMID" || fail_as_node "pct unlock"
  fi
  DOING=noted
  describe "$marker" "${HOST_KEY:+host-key $HOST_KEY}" "restoring job=$JOB archive=$ARCHIVE was=$WAS"
  write_description || fail_as_node "pct set"
  if is_running; then
    node_command pct stop "$VMID" || fail_as_node "pct stop"
  fi
  describe "$marker" "$step"
  read_kept_options
  DOING=restoring
  node_command pct restore "$VMID" "$ARCHIVE" --force 1 --storage "$POD_STORAGE" --pool "$POOL" \
    --description "$WANTED_DESCRIPTION" "${KEPT[@]}" || fail_as_node "pct restore"
}

# Leave in KEPT what the pod is, as options of pct restore: only its data goes back.
read_kept_options() {
  local name
  KEPT=()
  for name in hostname net0 cores memory swap onboot nameserver; do
    if [[ -n ${CONF[$name]:-} ]]; then KEPT+=("--$name" "${CONF[$name]}"); fi
  done
}

start_restored() {
  DOING=starting
  write_firewall
  if [[ $WAS == running ]] && ! is_running; then start_container; fi
  note_guest "restored job=$JOB archive=$ARCHIVE"
}

# -- after a failure ---------------------------------------------------------------------------------------------------

# shellcheck disable=SC2329  # finish calls it
clean_up() {
  case $DOING in
    '') undo_new_pod ;;
    *) leave_pod_as_good_as_possible ;;
  esac
}

# shellcheck disable=SC2329  # clean_up calls it
leave_pod_as_good_as_possible() {
  local -r again="restore it again from $ARCHIVE"
  find_container
  if [[ -z $CONF_FILE ]]; then
    LEFT="container $VMID is gone, its address $IP is kept: $again"
    return
  fi
  read_container
  if [[ ${CONF[lock]:-} == create ]]; then
    if [[ $RESTORE_STEP != restoring ]] || ! has_all_disks || ! node_answer pct unlock "$VMID"; then
      LEFT="container $VMID is unfinished, its address $IP is kept: $again"
      return
    fi
  fi
  if [[ $WAS == running ]] && ! is_running; then
    node_answer pct start "$VMID" || true
    wait_until_running || LEFT="container $VMID is stopped"
  fi
  if [[ $RESTORE_STEP == restoring ]]; then
    drop_note
  elif [[ $LEFT != nothing ]]; then
    LEFT+=", restored from $ARCHIVE"
  fi
}

# Nothing was changed: what was to come is not any more.
# shellcheck disable=SC2329  # leave_pod_as_good_as_possible calls it
drop_note() {
  find_container
  read_container
  describe "cloudpod tenant=$TENANT pod=$POD" "${HOST_KEY:+host-key $HOST_KEY}"
  write_description || true
}

# Succeed when every disk that the conf just read names is on its storage: then Proxmox has not begun to free them.
# shellcheck disable=SC2329  # leave_pod_as_good_as_possible calls it
has_all_disks() {
  local name volume
  for name in "${!CONF[@]}"; do
    [[ $name == rootfs || $name == mp[0-9]* ]] || continue
    volume=${CONF[$name]%%,*} volume=${volume#volume=}
    [[ $volume == *:* ]] || continue
    node_answer pvesm list "${volume%%:*}" --vmid "$VMID" || return 1
    [[ $'\n'$(printf '%s\n' "${ANSWER[@]}") == *$'\n'"$volume "* ]] || return 1
  done
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
