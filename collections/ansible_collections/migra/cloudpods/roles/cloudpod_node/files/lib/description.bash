# migra.cloudpods: the lines of a container's description. Ours are the marker with the owner, `host-key …`, and the last
# restore; every other line is the site's own and kept.
# shellcheck shell=bash disable=SC2034
# (What is set here is read in other files.)

declare -ga DESCRIPTION=()  # the description of the container just read, line by line

declare -gr MARKER='^cloudpod tenant=([A-Za-z0-9][A-Za-z0-9._:-]*) pod=(-|[A-Za-z0-9][A-Za-z0-9._:-]*)[[:space:]]*$'
declare -gr HOST_KEY_LINE='^host-key (ssh-[a-z0-9-]+ [A-Za-z0-9+/]+=*)$'
declare -gr RESTORE_LINE='^restored job=(-|[A-Za-z0-9][A-Za-z0-9_-]*) archive=([^ ]+)$'

# Forget what was read of another container's description.
forget_description() {
  DESCRIPTION=() OWNER_TENANT='' OWNER_POD='' HOST_KEY=''
  RESTORED='' RESTORE_JOB='' RESTORE_ARCHIVE=''
}

# Given a line of the description as the conf has it, without its "#", add it to DESCRIPTION and take from it what is ours.
read_description_line() {
  decode_text "$1"
  DESCRIPTION+=("$TEXT")
  if [[ $TEXT =~ $MARKER ]]; then
    [[ -n $OWNER_TENANT ]] || OWNER_TENANT=${BASH_REMATCH[1]} OWNER_POD=${BASH_REMATCH[2]}
  elif [[ $TEXT =~ $HOST_KEY_LINE ]]; then
    HOST_KEY=${BASH_REMATCH[1]}
  elif [[ $TEXT =~ $RESTORE_LINE ]]; then
    RESTORED=$TEXT RESTORE_JOB=${BASH_REMATCH[1]} RESTORE_ARCHIVE=${BASH_REMATCH[2]}
  fi
}

# Given a text with %XX as Proxmox writes it, leave the text that is meant in TEXT.
decode_text() {
  local rest=$1 byte
  TEXT=''
  while [[ $rest =~ ^([^%]*)%([0-9A-Fa-f]{2})(.*)$ ]]; do
    printf -v byte '%b' "\\x${BASH_REMATCH[2]}"
    TEXT+=${BASH_REMATCH[1]}$byte
    rest=${BASH_REMATCH[3]}
  done
  TEXT+=$rest
}

# Given the marker and the lines of ours that shall follow (empty ones are none), leave in WANTED_DESCRIPTION the description
# just read with these in place of the old ones.
describe() {
  local -r marker=$1
  local line placed=''
  local -a wanted=()
  shift
  for line in "${DESCRIPTION[@]}"; do
    if [[ $line =~ $MARKER ]]; then
      [[ -z $placed ]] || continue
      line=$marker placed=yes
    elif [[ $line =~ $HOST_KEY_LINE || $line =~ $RESTORE_LINE ]]; then
      continue
    fi
    wanted+=("$line")
  done
  [[ -n $placed ]] || wanted=("$marker" "${wanted[@]}")
  for line in "$@"; do
    if [[ -n $line ]]; then wanted+=("$line"); fi
  done
  printf -v WANTED_DESCRIPTION '%s\n' "${wanted[@]}"
  WANTED_DESCRIPTION=${WANTED_DESCRIPTION%$'\n'}
}

# Give the container WANTED_DESCRIPTION, unless it has it already; return 1 when that failed.
write_description() {
  local present
  printf -v present '%s\n' "${DESCRIPTION[@]}"
  [[ ${present%$'\n'} != "$WANTED_DESCRIPTION" ]] || return 0
  node_answer pct set "$VMID" --description "$WANTED_DESCRIPTION"
}

# Given the line about the restore (empty: none), write it and the guest's host key into the description of the container.
# Nothing of that is worth a failure: the pod is there.
note_guest() {
  local key=''
  if is_running; then
    read_guest_key
    key=$GUEST_KEY
  fi
  find_container
  read_container
  describe "cloudpod tenant=$TENANT pod=$POD" "${key:+host-key $key}" "$1"
  write_description || printf 'warning: the description of container %s could not be written\n' "$VMID" >&2 || true
  HOST_KEY=$key
}

# Leave the guest's SSH host key in GUEST_KEY, empty when it has none or does not answer in time. The guest is a stranger:
# report/guest.py keeps our descriptors, the run lock's before all, from what runs inside.
read_guest_key() {
  GUEST_KEY=''
  if node_answer "$PYTHON" -I -S -B "$LIBRARY_DIR/report" host-key "$VMID"; then GUEST_KEY=${ANSWER[0]:-}; fi
}
