#!/bin/bash -p
# migra.cloudpods: makes a snapshot of one pod, goes back to one or deletes one.
set -euo pipefail
umask 077
PATH=/usr/sbin:/usr/bin:/sbin:/bin

SCRIPT_FILE=$(readlink -f -- "${BASH_SOURCE[0]}")
SCRIPT=${SCRIPT_FILE##*/} SCRIPT=${SCRIPT%.sh}
LIBRARY_DIR=${SCRIPT_FILE%/*}/../lib/cloudpods
# shellcheck source=library.bash
source "$LIBRARY_DIR/library.bash"

USAGE="$SCRIPT.sh <vmid> --action create|rollback|delete --name NAME [--tenant ID] [--pod ID] [--run ID]"

# What this run has begun, for clean_up, and whether the pod ran before.
DOING='' WAS_RUNNING=''

# Make the snapshot, once per job: one of the same name is ours only when its note says so and it is whole.
create_snapshot() {
  local -r note="cloudpod tenant=${OWNER_TENANT:--} pod=${OWNER_POD:--} job=$JOB"
  if read_snapshot "$NAME"; then
    [[ $JOB != - && $SNAPSHOT_NOTE == "$note" && -z ${SNAPSHOT[snapstate]:-} ]] ||
      fail 73 "container $VMID already has a snapshot '$NAME'"
    RESULT=exists OUTCOME=exists
    return 0
  fi
  DOING=create RESULT=created OUTCOME=snapshotted
  node_command pct snapshot "$VMID" "$NAME" --description "$note" || fail_as_node "pct snapshot"
}

# Go back to the snapshot, once per job: what was written since would be lost the second time. Proxmox stops a running
# container for it and leaves it stopped, so that a run that is killed before its note has nothing to lose yet.
roll_back() {
  read_last "rollback $NAME"
  if is_running || [[ $LAST == *running ]]; then WAS_RUNNING=yes; fi
  if [[ $LAST == over* ]]; then
    DOING=start RESULT=unchanged OUTCOME=unchanged
  else
    go_back
  fi
  if [[ -n $WAS_RUNNING ]] && ! is_running; then start_container; fi
}

go_back() {
  read_snapshot "$NAME" || fail 66 "container $VMID has no snapshot '$NAME'"
  [[ -z ${SNAPSHOT[snapstate]:-} ]] || fail 1 "snapshot '$NAME' of container $VMID is not whole (${SNAPSHOT[snapstate]})"
  note_rollback begun
  DOING=rollback CHILD='' RESULT=rolled_back OUTCOME=rolled_back
  node_command pct rollback "$VMID" "$NAME" || fail_as_node "pct rollback"
  note_rollback over
  DOING=start
}

# Given how far the rollback has come, begun or over, note that and whether the container is to run afterwards.
note_rollback() {
  note_last "rollback $NAME" "$1${WAS_RUNNING:+ running}"
}

# Delete the snapshot, once per job: one of the same name that is there again is another.
delete_snapshot() {
  RESULT=absent OUTCOME=absent
  read_snapshot "$NAME" || return 0
  read_last "delete $NAME"
  RESULT=unchanged OUTCOME=unchanged
  [[ -z $LAST ]] || return 0
  DOING=delete RESULT=deleted OUTCOME=snapshot_deleted
  node_command pct delsnapshot "$VMID" "$NAME" || fail_as_node "pct delsnapshot"
  note_last "delete $NAME" over
}

# The container was not locked when this run began, and pct is through: a lock of its own kinds is what our pct left.
# With it nobody, not even a repetition of this run, could touch the container.
# shellcheck disable=SC2329  # finish calls it
lift_own_lock() {
  LIFTED=''
  read_container
  case ${CONF[lock]:-} in
    snapshot | snapshot-delete | rollback)
      LIFTED=${CONF[lock]}
      node_answer pct unlock "$VMID" || return 1
      ;;
  esac
}

# shellcheck disable=SC2329  # finish calls it
clean_up() {
  [[ -n $DOING ]] || return 0
  # The signal may have come when Proxmox was through.
  if [[ $DOING == rollback ]] && last_command_succeeded; then
    note_rollback over
    DOING=start
  fi
  find_container
  [[ -n $CONF_FILE ]] || return 0
  if ! lift_own_lock; then
    LEFT="lock '$LIFTED' on container $VMID"
    return 0
  fi
  case $DOING in
    create) drop_begun_snapshot ;;
    rollback | start) start_again ;;
    delete) ! read_snapshot "$NAME" || LEFT="snapshot '$NAME' of container $VMID" ;;
  esac
}

# A snapshot without all its volumes is none. --force, because the one on a volume may never have been made.
# shellcheck disable=SC2329  # clean_up calls it
drop_begun_snapshot() {
  read_snapshot "$NAME" || return 0
  node_answer pct delsnapshot "$VMID" "$NAME" --force 1 || true
  ! read_snapshot "$NAME" || LEFT="snapshot '$NAME' of container $VMID"
}

# A rollback that Proxmox refused or did not begin leaves the pod as it was; one that it had begun leaves it stopped, since
# its disk may be half the one and half the other.
# shellcheck disable=SC2329  # clean_up calls it
start_again() {
  if [[ -n $LIFTED ]]; then
    LEFT="container $VMID is stopped, and the rollback to '$NAME' is not through: repeat it"
  elif [[ -n $WAS_RUNNING ]] && ! is_running; then
    node_answer pct start "$VMID" || true
    wait_until_running || LEFT="container $VMID is stopped"
    if [[ $DOING == start && $LEFT != nothing ]]; then LEFT+=", rolled back to '$NAME'"; fi
  fi
}

main() {
  read_arguments 'action name tenant pod run' "$@"
  read_one_vmid
  require_options action name
  NAME=${OPTION[name]} JOB=${OPTION[run]:--} JOB=${JOB%.*}
  begin_run
  require_our_container
  TENANT=$OWNER_TENANT
  require_at_rest
  case ${OPTION[action]} in
    create) create_snapshot ;;
    rollback) roll_back ;;
    delete) delete_snapshot ;;
  esac
  read_state
  summarise VMID "$VMID"
  summarise Name "$NAME"
  summarise Status "$STATE"
  summarise Result "$RESULT"
  succeed "$OUTCOME" "snapshot '$NAME' of container $VMID: ${RESULT/_/ }"
}

main "$@"
