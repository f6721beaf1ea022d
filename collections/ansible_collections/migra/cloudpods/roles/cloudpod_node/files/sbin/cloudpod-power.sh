#!/bin/bash -p
# migra.cloudpods: starts, stops or restarts one pod.
set -euo pipefail
umask 077
PATH=/usr/sbin:/usr/bin:/sbin:/bin

SCRIPT_FILE=$(readlink -f -- "${BASH_SOURCE[0]}")
SCRIPT=${SCRIPT_FILE##*/} SCRIPT=${SCRIPT%.sh}
LIBRARY_DIR=${SCRIPT_FILE%/*}/../lib/cloudpods
# shellcheck source=library.bash
source "$LIBRARY_DIR/library.bash"

USAGE="$SCRIPT.sh <vmid> --state running|stopped|restarted [--shutdown-timeout S] [--force] [--tenant ID] [--pod ID] [--run ID]"

# What this run has begun, for clean_up: starting, stopping or restarting.
DOING=''

# Start the container that is stopped in a restart. Noted before: when this run is killed from here on, the container's state
# tells the next one whether the start is missing.
start_again() {
  note_last restarted over
  start_container
}

# Ask the guest to shut down. One that does not obey in time is stopped hard, but only with --force.
stop_container() {
  node_command pct shutdown "$VMID" --timeout "${OPTION[shutdown-timeout]:-60}" && return 0
  # It may have stopped by itself between our look and pct's.
  is_running || return 0
  [[ -n ${OPTION[force]+given} ]] || fail_as_node "pct shutdown"
  node_command pct stop "$VMID" || ! is_running || fail_as_node "pct stop"
}

# Given the present state, bring the container into the wanted one and leave in RESULT what that took. What this job has done
# it does not do again, whatever became of the container since.
change_state() {
  local -r wanted=${OPTION[state]}
  read_last "$wanted"
  case $1:$wanted:$LAST in
    stopped:restarted:*)
      DOING=starting RESULT=started
      start_again
      ;;
    running:running:* | stopped:stopped:* | *:over)
      RESULT=unchanged
      ;;
    stopped:running:*)
      DOING=starting RESULT=started
      start_container
      note_last "$wanted" over
      ;;
    running:stopped:*)
      DOING=stopping RESULT=stopped
      stop_container
      note_last "$wanted" over
      ;;
    running:restarted:*)
      # Not pct reboot: it kills a guest that does not obey, with or without --force, and does not wait for its start.
      DOING=restarting RESULT=restarted
      stop_container
      start_again
      ;;
  esac
}

# A restart that stopped the pod and came no further starts it again if it can: who asked for a restart wants it to run.
# shellcheck disable=SC2329  # finish calls it
clean_up() {
  case $DOING in
    stopping | restarting) ! is_running || LEFT="container $VMID runs, and may still obey the shutdown" ;;
  esac
  if [[ $DOING == restarting ]] && ! is_running; then
    note_last restarted over
    node_answer pct start "$VMID" || true
    wait_until_running || LEFT="container $VMID is stopped"
  fi
}

main() {
  read_arguments 'state shutdown-timeout force! tenant pod run' "$@"
  read_one_vmid
  require_options state
  JOB=${OPTION[run]:--} JOB=${JOB%.*}
  begin_run
  require_our_container
  TENANT=$OWNER_TENANT
  require_at_rest
  read_state
  change_state "$STATE"
  read_state
  summarise VMID "$VMID"
  summarise Status "$STATE"
  summarise Result "$RESULT"
  succeed "$RESULT" "container $VMID is $STATE"
}

main "$@"
