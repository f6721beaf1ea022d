# migra.cloudpods: which job did the last thing to a pod that may not be done twice. A restart, a rollback and what somebody has
# undone since leave no trace on the container, so <state_dir>/last/<vmid> says it: a job whose answer was lost comes again.
# shellcheck shell=bash disable=SC2034
# (What is set here is read in other files.)
#
# The file is one line, `<job> <script> <what was asked>: <how far it came>`, the last one's. JOB is the script's, "-" for none.

# Given what is asked, leave in LAST how far an earlier run of this job has come with just that; empty when with nothing.
read_last() {
  local -r file=$STATE_DIR/last/$VMID
  local line=''
  LAST=''
  [[ $JOB != - && -f $file ]] || return 0
  IFS= read -r line <"$file" || true
  if [[ $line == "$JOB $SCRIPT $1: "* ]]; then LAST=${line#"$JOB $SCRIPT $1: "}; fi
}

# Given what is asked and how far it has come, note that. By then the container has changed, so that a failure is only said.
note_last() {
  [[ $JOB != - ]] || return 0
  write_state last "$JOB $SCRIPT $1: $2"$'\n' ||
    printf 'warning: cannot write %s: this job would not know that it did this\n' "$STATE_DIR/last/$VMID" >&2 || true
}

# Forget the last job: its container is gone.
drop_last() {
  rm -f -- "$STATE_DIR/last/$VMID"
}
