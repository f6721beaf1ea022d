# migra.cloudpods: who holds the run lock of VMID, and the ending of that. Nothing here takes the lock: whoever waited for it
# could not end its holder.
# shellcheck shell=bash disable=SC2034
# (What is set here is read in other files.)

declare -gA SIGNALLED=()   # the processes that got TERM
declare -ga HOLDERS=()     # the processes that find_lock_holders found
declare -ga SHOWN=()       # pid, run and script of the run that the answer is about
ORPHANED='' ORPHANED_MS=0  # the text of a lock whose script is gone, and since when it is

declare -gr SIGNING_MS=2000   # more than a run takes between its locking and its signing
declare -gr ORPHANED_FOR_MS=1000

# Leave pid, run, script and time of the run that holds the lock in HOLDER_…, empty before it has signed; return 1 when nobody
# holds it, whatever the text says: a run that was killed leaves its own.
read_holder() {
  HOLDER_PID='' HOLDER_RUN='' HOLDER_SCRIPT='' HOLDER_SINCE=''
  run_lock_is_held "$VMID" || return 1
  read -r HOLDER_PID HOLDER_RUN HOLDER_SCRIPT HOLDER_SINCE <"$LOCK_DIR/$VMID" || true
  [[ $HOLDER_PID =~ ^[1-9][0-9]*$ && -n $HOLDER_SINCE ]] || HOLDER_PID=''
}

# Given a run, succeed when it is the one that is asked: the very attempt, or any attempt of the job.
is_asked_run() {
  [[ $1 == "${OPTION[run]}" || (${OPTION[run]} != *.* && ${1%.*} == "${OPTION[run]}") ]]
}

# Given folders /proc/<pid>/fd, leave in HOLDERS the processes of ours below them that hold the lock, not those that wait for
# it. The links are read before anything is followed: what a guest's descriptors lead to may never answer.
find_lock_holders() {
  local link pid
  local -a links
  HOLDERS=()
  lines_of links quietly find "$@" -maxdepth 1 -user "$EUID" -lname "*/$VMID" || true
  for link in "${links[@]}"; do
    pid=${link#/proc/} pid=${pid%%/*}
    [[ $link -ef $LOCK_DIR/$VMID && " ${HOLDERS[*]} " != *" $pid "* ]] || continue
    if grep -qs '^lock:.*FLOCK.*WRITE' "/proc/$pid/fdinfo/${link##*/}"; then HOLDERS+=("$pid"); fi
  done
}

# End the run that read_holder found. As long as its script lives only that is told: its trap ends its command and cleans up,
# and the commands of a clean-up hold the lock too. A pid that does not hold the lock is not the script, whatever it is now.
end_holder() {
  SHOWN=("$HOLDER_PID" "$HOLDER_RUN" "$HOLDER_SCRIPT")
  find_lock_holders "/proc/$HOLDER_PID/fd"
  if ((${#HOLDERS[@]} > 0)); then
    ORPHANED=''
    tell_to_end
  else
    end_orphans
  fi
}

# End what a script that was killed has started. The text must have been so for a while: another run that has just taken the
# lock, and is about to sign, looks the same for an instant.
end_orphans() {
  local -r text="$HOLDER_PID $HOLDER_SINCE"
  if [[ $ORPHANED != "$text" ]]; then
    ORPHANED=$text ORPHANED_MS=$NOW_MS
  fi
  ((NOW_MS - ORPHANED_MS >= ORPHANED_FOR_MS)) || return 0
  find_lock_holders /proc/[0-9]*/fd
  if read_holder && [[ "$HOLDER_PID $HOLDER_SINCE" == "$text" ]]; then tell_to_end; fi
}

# Send TERM to each of HOLDERS that has not got it. Never KILL: half a pct leaves what only somebody at the node can mend.
tell_to_end() {
  local pid
  for pid in "${HOLDERS[@]}"; do
    [[ -z ${SIGNALLED[$pid]:-} ]] || continue
    SIGNALLED[$pid]=yes
    kill -TERM "$pid" 2>/dev/null || true
  done
}

# Given milliseconds, end the run that is asked and wait that long for the lock to be free; leave in RESULT idle, ended, other
# or stuck, and in SHOWN whom that is about.
end_run() {
  read_clock
  local -ir began=NOW_MS
  RESULT=''
  while read_holder; do
    if [[ -n $HOLDER_PID ]] && ! is_asked_run "$HOLDER_RUN"; then
      if ((${#SIGNALLED[@]} == 0)); then
        SHOWN=("$HOLDER_PID" "$HOLDER_RUN" "$HOLDER_SCRIPT") RESULT=other
        return
      fi
      break # the run that was asked is over, and another has begun
    fi
    if [[ -n $HOLDER_PID ]]; then
      end_holder
    elif ((NOW_MS - began >= SIGNING_MS && ${#SIGNALLED[@]} == 0)); then
      RESULT=other # what the commands of a run that is through hold is nobody's any more
      return
    fi
    if ((NOW_MS - began >= $1)); then
      RESULT=stuck
      return
    fi
    wait_for sleep 0.1
    read_clock
  done
  RESULT=idle
  if ((${#SIGNALLED[@]} > 0)); then RESULT=ended; fi
}
