# migra.cloudpods: the run lock, held for a run's life, and the reservation lock, held for the picking of an address.
# shellcheck shell=bash disable=SC2034
# (What is set here is read in other files.)

# Make the lock folder ours alone, or fail. /run/lock is world-writable: a folder somebody else put there is no lock.
require_lock_dir() {
  [[ -d $LOCK_DIR ]] || mkdir -p -- "$LOCK_DIR"
  [[ ! -L $LOCK_DIR && -O $LOCK_DIR ]] || fail 1 "the lock folder $LOCK_DIR belongs to somebody else"
}

# Take the run lock of VMID or exit 75. The descriptor is inherited by the node's commands on purpose:
# the vmid stays busy while anything of a killed run still works on it.
take_run_lock() {
  require_lock_dir
  exec {RUN_LOCK}<>"$LOCK_DIR/$VMID"
  wait_for flock -w 10 "$RUN_LOCK" ||
    fail 75 "vmid $VMID is busy: another run holds its lock"
  read_clock
  printf '%s %s %s %s\n' $$ "${OPTION[run]:--}" "$SCRIPT" "${NOW%.*}Z" >"$LOCK_DIR/$VMID"
  RUN_LOCKED=yes
  refuse_ended_run
}

# Refuse a run that was ended for good. Asked under the lock: who ends a run notes that first and then looks at the lock, so
# that a late one is either seen there or sees the note.
refuse_ended_run() {
  local -r run=${OPTION[run]:-}
  [[ -n $run ]] || return 0
  [[ ! -e $LOCK_DIR/ended/$run && ! -e $LOCK_DIR/ended/${run%.*} ]] || fail 77 "run $run was ended for good"
}

# Note that the run of --run, or every attempt of that job, may not begin any more: whoever called it may be gone, and the
# call still on its way. The note is of use for as long as a call can be late, and goes after a day.
note_ended_run() {
  local -r folder=$LOCK_DIR/ended
  if ! { mkdir -p -- "$folder" && : >"$folder/${OPTION[run]}"; }; then
    fail 1 "cannot write $folder/${OPTION[run]}"
  fi
  find "$folder" -type f -mmin +1440 -delete || true
}

# Say that nobody holds the run lock any more; the lock itself goes with the last process that inherited it.
empty_run_lock() {
  if [[ -n $RUN_LOCKED ]]; then : >"$LOCK_DIR/$VMID"; fi
}

# Take the reservation lock; return 1 when it is not to be had. The caller decides what that means:
# a create gives up, a clean-up says what is left.
take_reservation_lock() {
  # A clean-up that interrupts whoever holds it would otherwise wait for itself.
  release_reservation_lock
  exec {RESERVATION_LOCK}<>"$LOCK_DIR/reserve"
  wait_for flock -w 30 "$RESERVATION_LOCK" || {
    release_reservation_lock
    return 1
  }
}

release_reservation_lock() {
  [[ -n $RESERVATION_LOCK ]] || return 0
  exec {RESERVATION_LOCK}>&-
  RESERVATION_LOCK=''
}

# Given a vmid, succeed when somebody holds its run lock. A shared lock is tried, so that two who look do not meet.
run_lock_is_held() {
  local fd held=1
  [[ -f $LOCK_DIR/$1 ]] || return 1
  exec {fd}<"$LOCK_DIR/$1"
  flock -s -n "$fd" || held=0
  exec {fd}<&-
  return "$held"
}

# Lift the lock that vzdump left on the container when the node went down in the middle of a backup: nothing else ever does,
# and under it nobody may start, change or back up the container again. vzdump holds a lock of its own, the node's, for as
# long as it works; whoever gets that knows that no backup is under way. Needs read_container.
lift_stale_backup_lock() {
  local fd
  case ${CONF[lock]:-} in
    backup) ;;
    snapshot | snapshot-delete) read_snapshot vzdump || return 0 ;;
    *) return 0 ;;
  esac
  exec {fd}<>"$VZDUMP_LOCK"
  if flock -n "$fd"; then
    node_answer pct unlock "$VMID" || fail_as_node "pct unlock"
    if read_snapshot vzdump; then node_answer pct delsnapshot "$VMID" vzdump --force 1 || fail_as_node "pct delsnapshot"; fi
    printf 'warning: lifted the lock (%s) that a backup which was cut off left on container %s\n' "${CONF[lock]}" "$VMID" >&2 || true
    read_container
  fi
  exec {fd}>&-
}
