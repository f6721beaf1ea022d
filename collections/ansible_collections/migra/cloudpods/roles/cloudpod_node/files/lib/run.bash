# migra.cloudpods: a run's life. begin_run, then the script's own steps, then succeed or fail; finish sees to the rest.
# shellcheck shell=bash disable=SC2034
# (What is set here is read in other files.)

RUN_LOCKED='' RUN_LOCK='' RESERVATION_LOCK=''
FAILURE='' LEFT=nothing FAILED_AT='' TAKEN='' RETRYABLE=no
IP='' TENANT='' COMPLETE=''
declare -ga SUMMARY=()

# Given error, retryable and what is left, print the last lines of a failure.
print_failure() {
  if [[ -n $TAKEN ]]; then printf 'Taken    : %s\n' "$TAKEN" >&2 || true; fi
  printf 'Error    : %s\nRetryable: %s\nLeft     : %s\n' "$1" "$2" "$3" >&2 || true
}

# Given an exit code and a message, end the run as failed.
fail() {
  FAILURE=$2
  exit "$1"
}

# Given a message, end the run as failed in the middle of its work, which the same run may finish later. Not with 75: that and
# `Left: nothing` say that all is as it was.
fail_half_way() {
  RETRYABLE=yes
  fail 1 "$1"
}

# Given `vmid` or `ip` and a message, end the run as failed because somebody else has what a new pod was to get.
fail_taken() {
  TAKEN=$1
  fail 73 "$2"
}

# What a script undoes after a failure, and says in LEFT when it cannot. Scripts that create something define their own.
clean_up() { :; }

# Given an array's name and a command, run it and leave the lines that it prints in the array. Once the traps are set, nothing
# else is asked by way of `$(…)` or `<(…)`: bash 5.2 parses those each time it comes to them, and a signal of just that moment
# ends the script with a syntax error instead.
lines_of() {
  local -r into=$1
  shift
  # What failed is the caller's line.
  "$@" | mapfile -t "$into" || return
}

# As a command of lines_of, and only there, since it takes the shell's place: run a command whose words on stderr say nothing.
quietly() {
  exec "$@" 2>/dev/null
}

# Set the traps and take the run lock of VMID.
begin_run() {
  begin
  take_run_lock
  open_scratch
}

# As begin_run, without the run lock.
begin() {
  read_clock
  STARTED_MS=$NOW_MS
  # A caller that went away must not stop a change half-way: writes to it fail quietly instead.
  trap '' PIPE
  trap 'FAILED_AT="${BASH_SOURCE[0]##*/} line $LINENO"' ERR
  trap finish EXIT
  trap 'interrupted 1 HUP' HUP
  trap 'interrupted 2 INT' INT
  trap 'interrupted 15 TERM' TERM
  set -E
  require_node_files
  read_node_name
}

# What every look at a container needs.
require_node_files() {
  [[ -r $PVE_DIR/user.cfg ]] || fail 1 "cannot read $PVE_DIR/user.cfg, which says what is in the pool: is Proxmox's cluster file system up?"
  [[ -r $NET_UNIX ]] || fail 1 "cannot read $NET_UNIX, which says what runs"
}

# No signal ends the run any more.
ignore_signals() {
  trap '' HUP INT TERM
}

# Given a signal's number and name: end the node command that is under way, then leave by way of finish.
interrupted() {
  local child
  ignore_signals
  FAILURE="ended by signal $2"
  for child in $(jobs -pr); do # no signal is heard any more: nothing to be lost
    end_child "$child"
  done
  exit $((128 + $1))
}

# Given a child, end it and wait for its end.
end_child() {
  wait_until_started "$1"
  kill -TERM "$1" 2>/dev/null || true
  wait "$1" || true
}

# Given a child, wait until it is the program it was started for. Between fork and exec it is still a shell with our traps,
# and a signal sent to it then is lost.
wait_until_started() {
  local tries
  for ((tries = 0; tries < 100; tries++)); do
    [[ /proc/$1/exe -ef /proc/$$/exe ]] || return 0
    sleep 0.01
  done
}

# The EXIT trap: after a failure clean up, log and explain; in any case say that the vmid is free again.
finish() {
  local rc=$?
  ignore_signals
  trap - EXIT ERR
  set +eE
  if ((rc != 0)) && [[ -z $COMPLETE ]]; then
    clean_up
    explain_failure "$rc"
  fi
  empty_run_lock
  exit "$rc"
}

# Given the exit code, log the failure and print its last lines.
explain_failure() {
  local outcome=failed retryable=$RETRYABLE
  case $1 in
    75) retryable=yes ;;
    129 | 130 | 143) outcome=interrupted retryable=yes ;;
  esac
  FAILURE=${FAILURE:-unexpected failure at ${FAILED_AT:-an unknown place}}
  FAILURE=${FAILURE//[[:cntrl:]]/ }
  log_outcome "$outcome" "$1" "$FAILURE"
  print_failure "$FAILURE" "$retryable" "$LEFT"
}

# Given a key and a value, add a line to the summary.
summarise() {
  local line
  printf -v line '%-9s: %s' "$1" "$2"
  SUMMARY+=("$line")
}

# Given outcome and message, log the success, print the summary and leave.
succeed() {
  ignore_signals
  COMPLETE=yes
  log_outcome "$1" 0 "$2"
  printf '%s\n' "${SUMMARY[@]}" || true
  exit 0
}
