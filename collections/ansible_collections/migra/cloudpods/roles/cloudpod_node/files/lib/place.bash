# migra.cloudpods: a restore over a pod that is there, or over what an earlier restore of it left. What the pod is stays, only
# its data goes back; the note (note.bash) says what that is, whatever becomes of the conf.
# shellcheck shell=bash disable=SC2034
# (What is set here is read in other files.)
#
# How far the restore has come, for clean_up: noted, restoring, laying or starting; and whether the pod is to run.
DOING='' WAS=running

restore_over() {
  HOST=${CONF[hostname]:-CT$VMID}
  read_address
  read_state
  WAS=$STATE
  # A restore that was ended before Proxmox began may have stopped the pod.
  if read_note && note_is_stale; then WAS=$NOTE_WAS; fi
  require_replaceable
  test_archive "$ARCHIVE"
  read_pod_storage
  require_unpacked_room
  keep_firewall
  write_note "$WAS" no
  DOING=noted
  if ((${#PENDING[@]} > 0)); then
    printf 'warning: what waited for the next start is dropped: %s\n' "${PENDING[*]}" >&2 || true
  fi
  if is_running; then
    node_command pct stop "$VMID" || fail_as_node "pct stop"
  fi
  replace_container --force 1
  finish_restored
}

# Refuse a pod that is not to be replaced now.
require_replaceable() {
  [[ ${CONF[protection]:-0} != 1 ]] || fail 1 "can't restore over CT $VMID - protection mode enabled"
  require_at_rest
  require_force
  [[ -n ${CONF[rootfs]:-} ]] || fail 1 "container $VMID has no root disk"
}

require_force() {
  [[ -n ${OPTION[force]+given} ]] ||
    fail 73 "container $VMID exists: a restore loses what was written since the archive was made; --force allows it"
}

require_unpacked_room() {
  require_storage "$POD_STORAGE" rootdir
  # What the old disks take is not counted: Proxmox makes the new ones before it frees them.
  ((FREE_KIB >= UNPACKED_KIB)) ||
    fail 69 "storage '$POD_STORAGE' has $((FREE_KIB / 1024)) MB free, archive $ARCHIVE unpacked takes $((UNPACKED_KIB / 1024 + 1)) MB"
}

# Leave the storage of the root disk of the pod in CONF in POD_STORAGE.
read_pod_storage() {
  POD_STORAGE=${CONF[rootfs]#volume=} POD_STORAGE=${POD_STORAGE%%:*}
}

# Go on where an earlier restore of this pod was ended. Needs is_unfinished_restore.
take_up() {
  [[ $NOTE_TENANT == "$TENANT" && $NOTE_POD == "$POD" ]] || fail 77 "vmid $VMID is not pod $POD of tenant $TENANT"
  local locked=${CONF[lock]:-} there=''
  if [[ -n $CONF_FILE ]] && ! conf_is_bare; then there=yes; fi
  WAS=$NOTE_WAS
  if [[ -n $there ]] && note_is_of_present_disk && has_all_disks; then
    # Proxmox had locked the pod and come no further.
    node_answer pct unlock "$VMID" || fail_as_node "pct unlock"
    read_container
    restore_over
    return
  fi
  read_noted_pod
  HOST=${CONF[hostname]:-CT$VMID}
  read_address
  if [[ -n $there && $JOB != - && $NOTE_JOB == "$JOB" && $NOTE_ARCHIVE == "$ARCHIVE" ]] && [[ -z $locked ]] && in_pool; then
    finish_restored # only what follows the unpacking is left
    return
  fi
  [[ -z $there ]] || require_force
  read_pod_storage
  test_archive "$ARCHIVE"
  require_unpacked_room
  write_note "$WAS" yes
  DOING=restoring
  remove_rest
  replace_container
  finish_restored
}

# Remove what stands there of the unfinished restore; everything that is to be kept is in the note.
remove_rest() {
  find_container
  if [[ -n $CONF_FILE ]]; then
    remove_container "$POD_STORAGE" || fail_as_node "removing what an earlier run left of $VMID"
  fi
  free_noted_disks || fail_as_node "pvesm free"
}

# Given options of pct restore, make the noted pod from the archive. Proxmox's way of a forced one: new disks, the old ones
# freed, then the archive unpacked.
replace_container() {
  read_noted_pod
  describe "cloudpod tenant=$TENANT pod=$POD" "restored job=$JOB archive=$ARCHIVE"
  read_kept_options
  DOING=restoring
  node_command pct restore "$VMID" "$ARCHIVE" "$@" --storage "$POD_STORAGE" --pool "$POOL" \
    --description "$WANTED_DESCRIPTION" "${KEPT[@]}" || fail_as_node "pct restore"
}

# Given a key of a conf, succeed when it belongs to the data and not to what the pod is. Raw keys of LXC's are not options.
is_of_data() {
  [[ $1 == @(rootfs|mp[0-9]*|unused[0-9]*|arch|ostype|unprivileged|lock|parent|template|lxc.*) ]]
}

# Leave in KEPT what the pod in CONF is, as options of pct restore.
read_kept_options() {
  local name
  KEPT=()
  for name in "${!CONF[@]}"; do
    is_of_data "$name" || KEPT+=("--$name" "${CONF[$name]}")
  done
}

# Make of what was unpacked the pod: nothing that only the archive knows, no smaller disk, its own firewall file. Then
# start it, if it ran, and forget the note: the restore is complete.
finish_restored() {
  DOING=laying
  lay_pod
  lay_kept_firewall
  write_firewall
  DOING=starting
  if [[ $WAS == running ]] && ! is_running; then start_container; fi
  note_guest "restored job=$JOB archive=$ARCHIVE"
  drop_note || fail 1 "the note $NOTE_FILE could not be removed"
  DOING=''
}

lay_pod() {
  local name size
  local -A pod
  local -a dropped=()
  read_noted_pod
  for name in "${!CONF[@]}"; do pod[$name]=${CONF[$name]}; done
  find_container
  read_container
  for name in "${!CONF[@]}"; do
    # A directory of the node's is no data of the pod's.
    if is_of_data "$name" && [[ $name != mp[0-9]* || ! ${CONF[$name]} =~ ^(volume=)?/ ]]; then continue; fi
    [[ -n ${pod[$name]+there} ]] || dropped+=("$name")
  done
  drop_keys "${dropped[@]}"
  size=${pod[rootfs]:-} size=${size##*size=} size=${size%%,*}
  read_kib "$size"
  local -ir wanted=KIB
  read_kib "${CONF[rootfs]##*size=}"
  if ((wanted > KIB)); then
    node_answer pct resize "$VMID" rootfs "$size" || fail_as_node "pct resize"
  fi
}

# Given a size as Proxmox writes it, leave it in KIB; 0 for what is none.
read_kib() {
  KIB=0
  [[ $1 =~ ^([0-9]+)([KMGT])(,|$) ]] || return 0
  case ${BASH_REMATCH[2]} in
    K) KIB=${BASH_REMATCH[1]} ;;
    M) KIB=$((BASH_REMATCH[1] << 10)) ;;
    G) KIB=$((BASH_REMATCH[1] << 20)) ;;
    T) KIB=$((BASH_REMATCH[1] << 30)) ;;
  esac
}

# -- after a failure ---------------------------------------------------------------------------------------------------

# shellcheck disable=SC2329  # clean_up calls it
leave_pod_as_good_as_possible() {
  find_container
  if [[ -n $CONF_FILE ]]; then
    read_container
    put_back_unbegun
    if [[ $DOING == starting && $WAS == running ]] && ! is_running; then
      node_answer pct start "$VMID" || true
      wait_until_running || true
    fi
    # All that is missing then is the guest's key.
    if [[ $DOING == starting ]] && { is_running || [[ $WAS == stopped ]]; }; then drop_note; fi
  fi
  say_unfinished
}

# When Proxmox has not begun, the pod is as it was: lift the lock that it left, start it again if it ran, drop the note.
# shellcheck disable=SC2329  # leave_pod_as_good_as_possible calls it
put_back_unbegun() {
  read_note && note_is_of_present_disk || return 0
  if [[ ${CONF[lock]:-} == create ]]; then
    has_all_disks && node_answer pct unlock "$VMID" || return 0
  fi
  if [[ $WAS == running ]] && ! is_running; then
    node_answer pct start "$VMID" || true
    wait_until_running || LEFT="container $VMID is stopped"
  fi
  drop_note
}

# Say in LEFT what a restore in place, this one or an earlier, has left of the pod.
# shellcheck disable=SC2329  # clean_up calls it
say_unfinished() {
  local -r again="restore it again from $ARCHIVE"
  find_container
  if [[ -n $CONF_FILE ]]; then read_container; fi
  is_unfinished_restore && [[ $OWNER_TENANT == "$TENANT" && $OWNER_POD == "$POD" ]] || return 0
  if [[ -z $CONF_FILE ]]; then
    LEFT="container $VMID is gone, its address is kept: $again"
  elif [[ $DOING == starting ]]; then
    LEFT="container $VMID is stopped, restored from $ARCHIVE"
  else
    LEFT="container $VMID is unfinished, its address is kept: $again"
  fi
  read_noted_pod
  read_address
  LEFT=${LEFT/its address/its address $IP}
}
