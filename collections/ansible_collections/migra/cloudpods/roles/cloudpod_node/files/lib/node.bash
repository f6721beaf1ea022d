# migra.cloudpods: what Proxmox's files say about a container, and the starting of Proxmox's commands.
# shellcheck shell=bash disable=SC2034
# (What is set here is read in other files.)

declare -gA CONF=()        # the current section of the container's conf
declare -ga PENDING=()     # keys waiting for the container's next start
declare -gA SNAPSHOT=()    # one snapshot's section of the conf
declare -ga ANSWER=()      # stdout of the last command whose answer was wanted
declare -ga MESSAGES=()    # stderr of the last command
declare -g CHILD=''         # the process of the last command
declare -gr SCRATCH_READ=262144  # bytes of either that are taken, from its beginning and from its end

# Leave this node's name in NODE.
read_node_name() {
  local folder
  NODE=${NODE_NAME:-}
  [[ -z $NODE ]] || return 0
  NODE=${HOSTNAME%%.*}
  for folder in "$PVE_DIR"/nodes/*; do
    if [[ $folder -ef $PVE_DIR/local ]]; then NODE=${folder##*/}; fi
  done
}

# Leave in CONF_FILE, CONF_NODE and CONF_TYPE (lxc or qemu-server) where VMID's conf stands on any node; empty when nowhere.
find_container() {
  local file
  CONF_FILE='' CONF_NODE='' CONF_TYPE=''
  for file in "$PVE_DIR"/nodes/*/{lxc,qemu-server}/"$VMID.conf"; do
    [[ -f $file ]] || continue
    CONF_FILE=$file
    CONF_TYPE=${file%/*} CONF_TYPE=${CONF_TYPE##*/}
    CONF_NODE=${file#"$PVE_DIR/nodes/"} CONF_NODE=${CONF_NODE%%/*}
    return 0
  done
}

# Read CONF_FILE into CONF, PENDING and what the description says (description.bash).
read_container() {
  local line section='' key
  CONF=() PENDING=()
  forget_description
  while IFS= read -r line || [[ -n $line ]]; do
    if [[ $line == '['*']' ]]; then
      section=$line
    elif [[ -z $section && $line == '#'* ]]; then
      read_description_line "${line#'#'}"
    elif [[ $line == *:* ]]; then
      key=${line%%:*}
      case $section in
        '') CONF[$key]=${line#*: } ;;
        '[pve:pending]') PENDING+=("$key") ;;
      esac
    fi
  done <"$CONF_FILE"
}

# Given a snapshot's name, read its section of CONF_FILE into SNAPSHOT and the first line of its description into
# SNAPSHOT_NOTE; return 1 when there is no such snapshot.
read_snapshot() {
  local line section='' found=1
  SNAPSHOT=() SNAPSHOT_NOTE=''
  while IFS= read -r line || [[ -n $line ]]; do
    if [[ $line == '['*']' ]]; then
      section=$line
      if [[ $section == "[$1]" ]]; then found=0; fi
    elif [[ $section != "[$1]" ]]; then
      continue
    elif [[ $line == '#'* ]]; then
      SNAPSHOT_NOTE=${SNAPSHOT_NOTE:-${line#'#'}}
    elif [[ $line == *:* ]]; then
      SNAPSHOT[${line%%:*}]=${line#*: }
    fi
  done <"$CONF_FILE"
  # Proxmox encodes ":" in a description.
  SNAPSHOT_NOTE=${SNAPSHOT_NOTE//%3[Aa]/:}
  return "$found"
}

# Leave the address on net0 of the conf just read in IP, empty when it has no fixed one.
read_address() {
  IP=''
  if [[ ${CONF[net0]:-} =~ (^|,)ip=($ADDRESS)/ ]]; then IP=${BASH_REMATCH[2]}; fi
}

# Succeed when the conf just read is no more than what `pct create` writes first to hold the vmid, or what `pct unlock`
# makes of that.
conf_is_bare() {
  ((${#CONF[@]} == 0)) || { ((${#CONF[@]} == 1)) && [[ ${CONF[lock]:-} == create ]]; }
}

# Succeed when VMID is a member of the pool.
in_pool() {
  local kind name members
  while IFS=: read -r kind name _ members _; do
    if [[ $kind == pool && $name == "$POOL" && ,$members, == *,"$VMID",* ]]; then return 0; fi
  done <"$PVE_DIR/user.cfg"
  return 1
}

# Succeed when the container runs: its command socket is listening.
is_running() {
  local lines text
  mapfile -t lines <"$NET_UNIX"
  printf -v text '%s\n' "${lines[@]}"
  [[ $text == *"@/var/lib/lxc/$VMID/command"$'\n'* ]]
}

# Leave running or stopped in STATE.
read_state() {
  STATE=stopped
  if is_running; then STATE=running; fi
}

# Wait up to five seconds for the container to run.
wait_until_running() {
  local tries
  for ((tries = 0; tries < 50; tries++)); do
    if is_running; then return 0; fi
    wait_for sleep 0.1
  done
  return 1
}

# Refuse VMID unless it is a container on this node; needs find_container.
require_container_here() {
  [[ -n $CONF_FILE ]] || fail 66 "there is no container $VMID"
  [[ $CONF_TYPE == lxc ]] || fail 77 "$VMID is a virtual machine, not a container of pool $POOL"
  [[ $CONF_NODE == "$NODE" ]] || fail 66 "container $VMID is on node $CONF_NODE, not on $NODE"
}

# Refuse the container unless it is in the pool; needs find_container.
require_pool() {
  in_pool || fail 77 "container $VMID is not in pool $POOL"
}

# Refuse the container when --tenant or --pod names another owner; needs read_container. The owner is not told:
# who asks with the wrong tenant need not learn the right one.
require_owner() {
  [[ -z ${OPTION[tenant]+given} || ${OPTION[tenant]} == "$OWNER_TENANT" ]] ||
    fail 77 "container $VMID does not belong to tenant ${OPTION[tenant]}"
  [[ -z ${OPTION[pod]+given} || ${OPTION[pod]} == "$OWNER_POD" ]] ||
    fail 77 "container $VMID is not pod ${OPTION[pod]}"
}

# Find the container and refuse it unless it is here, ours and in the pool.
require_our_container() {
  find_container
  require_container_here
  require_pool
  read_container
  require_owner
  settle_note
  lift_stale_backup_lock
}

# Refuse the container that require_our_container found while it is not to be worked on: what a killed create left, or
# what Proxmox itself has locked. Even its state means nothing then: vzdump stops and starts it meanwhile.
require_at_rest() {
  ! is_unfinished || fail 75 "container $VMID is an unfinished create: create it again or destroy it first"
  case ${CONF[lock]:-} in
    '' | mounted) ;;
    *) fail 75 "CT is locked (${CONF[lock]})" ;;
  esac
}

# Start the container and see it run.
start_container() {
  node_command pct start "$VMID" || fail_as_node "pct start"
  wait_until_running || fail 1 "container $VMID did not stay up after its start"
}

# Two scratch files without a name, which take what a command says and vanish with the run, killed or not. They lie by the
# log and not by the locks: /run/lock is small, and tar may have a word to say of each of a guest's files.
open_scratch() {
  local -r scratch=${LOG_FILE%/*}/.cloudpods-$VMID
  : >"$scratch.out"
  : >"$scratch.err"
  exec {OUT_WRITE}>>"$scratch.out" {ERR_WRITE}>>"$scratch.err"
  rm -f -- "$scratch.out" "$scratch.err"
}

# Given an array's name and a scratch file's descriptor, move what the last command said there into the array. Of what is
# longer than any honest answer the beginning and the end are kept: the one names vzdump's archive, the other what failed.
take_scratch() {
  local -r file=/proc/self/fd/$2
  { head -c "$SCRATCH_READ"; tail -c "$SCRATCH_READ"; } <"$file" | mapfile -t "$1" # tail goes on where head stopped
  : >"$file"
}

# Run a command in the background and wait, so that a trap runs at once and not when the command is through.
wait_for() {
  "$@" &
  wait $!
}

# As wait_for, with stdout and stderr on other descriptors: the command's alone, since a trap that runs meanwhile must
# find our own stderr. C.UTF-8: Proxmox's commands decode their arguments by the locale, and would lose a site's umlauts.
wait_for_on() {
  local -r out=$1 err=$2
  shift 2
  CHILD=''
  LC_ALL=C.UTF-8 "$@" 1>&"$out" 2>&"$err" &
  CHILD=$!
  wait "$CHILD"
}

# Succeed when the last node command was through and had succeeded, also when a signal took us away from waiting for it.
last_command_succeeded() {
  [[ -n $CHILD ]] && wait "$CHILD"
}

# Run a node command. What it says on stdout goes to our stderr as it comes, what it says on stderr follows.
node_command() {
  local rc=0
  wait_for_on 2 "$ERR_WRITE" "$@" || rc=$?
  read_messages
  return "$rc"
}

# Run a node command and leave its stdout in ANSWER.
node_answer() {
  local rc=0
  wait_for_on "$OUT_WRITE" "$ERR_WRITE" "$@" || rc=$?
  take_scratch ANSWER "$OUT_WRITE"
  read_messages
  return "$rc"
}

# Take what the last command said on stderr into MESSAGES and show it.
read_messages() {
  take_scratch MESSAGES "$ERR_WRITE"
  ((${#MESSAGES[@]} == 0)) || printf '%s\n' "${MESSAGES[@]}" >&2 || true
}

# Given what was tried, leave the node's own words in one line in NODE_MESSAGE.
read_node_message() {
  local line
  NODE_MESSAGE=''
  for line in "${MESSAGES[@]}"; do
    line=${line#ERROR: }
    case $line in
      '' | '400 Parameter verification failed.' | 'job errors' | *'[OPTIONS]') continue ;;
    esac
    NODE_MESSAGE+=${NODE_MESSAGE:+; }$line
    ((${#NODE_MESSAGE} < 1000)) || break
  done
  NODE_MESSAGE=${NODE_MESSAGE:-$1 failed and gave no reason}
  NODE_MESSAGE=${NODE_MESSAGE:0:1000}
}

# Given the node's message, leave the exit code it stands for in NODE_CODE.
read_node_code() {
  case $1 in
    *'CT is locked ('* | *"can't lock file"* | *"can't acquire lock"* | *'got timeout'*) NODE_CODE=75 ;;
    *'already exists on node'*) NODE_CODE=73 ;;
    *"storage '"*"' does not exist"* | *"volume '"*"' does not exist"* | *"bridge '"*"' does not exist"* | \
      *"storage '"*"' is disabled"* | *"storage '"*"' is not available"* | *'does not support container directories'* | \
      *'wrong content type'* | *'out of space'* | *'No space left on device'*) NODE_CODE=69 ;;
    *'Configuration file '*' does not exist'*) NODE_CODE=66 ;;
    *) NODE_CODE=1 ;;
  esac
}

# Given what was tried, fail with the node's own message and the code that fits it.
fail_as_node() {
  read_node_message "$1"
  read_node_code "$NODE_MESSAGE"
  fail "$NODE_CODE" "$NODE_MESSAGE"
}

# Given a storage and a content type, leave its free space in FREE_KIB; exit 69 when the storage is not fit for it.
require_storage() {
  local line fields
  node_answer pvesm status --storage "$1" --content "$2" || fail_as_node "pvesm status"
  for line in "${ANSWER[@]}"; do
    read -r -a fields <<<"$line"
    [[ ${fields[0]:-} == "$1" ]] || continue
    [[ ${fields[2]:-} == active ]] || fail 69 "storage '$1' is ${fields[2]:-unknown}"
    FREE_KIB=${fields[5]:-}
    [[ $FREE_KIB =~ ^[0-9]+$ ]] || FREE_KIB=0
    return 0
  done
  fail 69 "storage '$1' cannot hold content '$2' on this node"
}

# Given the storage it was made on, stop and destroy the container whose conf find_container found, whatever state a killed
# create or destroy left it in. Return 1 when it is still there. What the commands print is not passed on: a caller that is
# gone must not make a clean-up fail.
remove_container() {
  read_container
  if [[ ${CONF[lock]:-} == create || ${CONF[lock]:-} == destroyed ]]; then
    node_answer pct unlock "$VMID" || true
  fi
  if conf_is_bare; then
    free_nameless_disks "$1" || return 1
  fi
  if is_running; then
    node_answer pct stop "$VMID" || ! is_running || return 1
  fi
  node_answer pct destroy "$VMID" --purge 1 || true
  find_container
  [[ -z $CONF_FILE ]]
}

# Given a storage, free the disks on it that carry VMID. A bare conf does not name the disk it was about to get, so destroy
# would leave it. Not pct destroy --destroy-unreferenced-disks: that searches every storage, shared ones too.
free_nameless_disks() {
  local line
  local -a fields
  node_answer pvesm list "$1" --content rootdir --vmid "$VMID" || return 1
  local -ra lines=("${ANSWER[@]}")
  for line in "${lines[@]}"; do
    read -r -a fields <<<"$line"
    [[ ${fields[0]:-} == "$1:"* && ${fields[4]:-} == "$VMID" ]] || continue
    node_answer pvesm free "${fields[0]}" || return 1
  done
}
