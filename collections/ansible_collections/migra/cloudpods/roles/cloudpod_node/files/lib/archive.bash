# migra.cloudpods: archives as vzdump makes them: finding them, whose they are, what is in them.
# shellcheck shell=bash disable=SC2034
# (What is set here is read in other files.)

declare -ga ARCHIVES=()      # volume ids of VMID's archives on one storage
declare -gA ARCHIVE_SIZE=()  # their bytes
declare -gA ARCHIVED=()      # the conf in an archive, its current section

declare -gr NOTES='(^|[[:space:]])cloudpod tenant=([A-Za-z0-9._:-]+) pod=([A-Za-z0-9._:-]+) job=([A-Za-z0-9_-]+)([[:space:]]|$)'

# Given a storage, fill ARCHIVES and ARCHIVE_SIZE with VMID's archives on it, and ARCHIVE_DIR with the folder they lie in.
list_archives() {
  local line
  local -a fields
  ARCHIVES=() ARCHIVE_SIZE=() ARCHIVE_DIR=''
  node_answer pvesm list "$1" --content backup --vmid "$VMID" || fail_as_node "pvesm list"
  for line in "${ANSWER[@]}"; do
    read -r -a fields <<<"$line"
    [[ ${fields[0]:-} == "$1:"*"vzdump-lxc-$VMID-"* ]] || continue
    ARCHIVES+=("${fields[0]}")
    ARCHIVE_SIZE[${fields[0]}]=${fields[3]:-0}
  done
  ((${#ARCHIVES[@]} > 0)) || return 0
  # They all lie in one folder, with their notes beside them.
  node_answer pvesm path "${ARCHIVES[0]}" || fail_as_node "pvesm path"
  ARCHIVE_DIR=${ANSWER[0]%/*}
}

# Given an archive's file, leave in ARCHIVE_TENANT, ARCHIVE_POD and ARCHIVE_JOB what its notes say; empty when they are silent.
read_notes() {
  ARCHIVE_TENANT='' ARCHIVE_POD='' ARCHIVE_JOB=''
  [[ -f $1.notes ]] || return 0
  local notes=''
  IFS= read -r -N 4096 notes <"$1.notes" || true
  if [[ $notes =~ $NOTES ]]; then
    ARCHIVE_TENANT=${BASH_REMATCH[2]} ARCHIVE_POD=${BASH_REMATCH[3]} ARCHIVE_JOB=${BASH_REMATCH[4]}
  fi
}

# Given a volume id, leave its path in ARCHIVE_FILE; exit 66 when there is no such archive.
find_archive() {
  node_answer pvesm path "$1" || fail_as_node "pvesm path"
  ARCHIVE_FILE=${ANSWER[0]:-}
  [[ -f $ARCHIVE_FILE ]] || fail 66 "there is no archive $1 on node $NODE"
}

# Given a volume id, tenant and pod, refuse the archive just found unless its notes name them. Whose it is else is not told.
require_archive_of() {
  read_notes "$ARCHIVE_FILE"
  [[ -n $ARCHIVE_TENANT ]] || fail 77 "archive $1 does not say whose it is"
  [[ $ARCHIVE_TENANT == "$2" ]] || fail 77 "archive $1 does not belong to tenant $2"
  [[ $ARCHIVE_POD == "$3" ]] || fail 77 "archive $1 is not of pod $3"
}

# Given a volume id, read the archive just found to its end, leave its unpacked size in UNPACKED_KIB and the conf in it in
# ARCHIVED. Proxmox frees the old disks before it unpacks: what cannot be read must be found before.
test_archive() {
  local rc=0 line
  local -i null
  exec {null}>/dev/null
  wait_for_on "$null" "$ERR_WRITE" tar --totals -tf "$ARCHIVE_FILE" || rc=$?
  exec {null}>&-
  read_messages
  if ((rc != 0)); then
    read_node_message tar
    fail 1 "archive $1 on node $NODE is damaged, it cannot be read to its end: $NODE_MESSAGE"
  fi
  UNPACKED_KIB=0
  for line in "${MESSAGES[@]}"; do
    if [[ $line =~ ^'Total bytes read: '([0-9]+) ]]; then UNPACKED_KIB=$((BASH_REMATCH[1] / 1024 + 1)); fi
  done
  node_answer tar --occurrence=1 -xOf "$ARCHIVE_FILE" ./etc/vzdump/pct.conf ||
    fail 1 "archive $1 on node $NODE holds no container's configuration"
  read_archived_conf
}

# Take the current section of the conf in ANSWER into ARCHIVED.
read_archived_conf() {
  local line
  ARCHIVED=()
  for line in "${ANSWER[@]}"; do
    [[ $line != '['* ]] || return 0
    if [[ $line != '#'* && $line == *:* ]]; then ARCHIVED[${line%%:*}]=${line#*: }; fi
  done
}

# Leave the size of the archived root disk, in whole GB, in ARCHIVED_GB.
read_archived_size() {
  ARCHIVED_GB=$DISK_GB
  [[ ${ARCHIVED[rootfs]:-} =~ (^|,)size=([0-9]+)([MGT]) ]] || return 0
  case ${BASH_REMATCH[3]} in
    M) ARCHIVED_GB=$(((BASH_REMATCH[2] + 1023) / 1024)) ;;
    G) ARCHIVED_GB=${BASH_REMATCH[2]} ;;
    T) ARCHIVED_GB=$((BASH_REMATCH[2] * 1024)) ;;
  esac
}
