#!/bin/bash -p
# migra.cloudpods: makes one archive of a pod, once per job.
set -euo pipefail
umask 077
PATH=/usr/sbin:/usr/bin:/sbin:/bin

SCRIPT_FILE=$(readlink -f -- "${BASH_SOURCE[0]}")
SCRIPT=${SCRIPT_FILE##*/} SCRIPT=${SCRIPT%.sh}
LIBRARY_DIR=${SCRIPT_FILE%/*}/../lib/cloudpods
# shellcheck source=library.bash
source "$LIBRARY_DIR/library.bash"

USAGE="$SCRIPT.sh <vmid> --mode snapshot|suspend|stop [--storage S] [--retention KEEP] [--tenant ID] [--pod ID] [--run ID]"

ARCHIVE='' SIZE=0 BACKING_UP=''
declare -a REMOVED=()

# Succeed when this job's archive is there already, and leave it in ARCHIVE. The notes are written last, so an archive
# that has them is whole.
find_archive_of_job() {
  local volume
  [[ $JOB != - ]] || return 1
  for volume in "${ARCHIVES[@]}"; do
    read_notes "$ARCHIVE_DIR/${volume##*/}"
    if [[ $ARCHIVE_JOB == "$JOB" ]] && is_ours; then
      ARCHIVE=$volume SIZE=${ARCHIVE_SIZE[$volume]}
      return 0
    fi
  done
  return 1
}

# Succeed when the notes just read name this container's owner.
is_ours() {
  [[ $ARCHIVE_TENANT == "${OWNER_TENANT:--}" && $ARCHIVE_POD == "${OWNER_POD:--}" ]]
}

# Leave in PRUNING the options of vzdump about older archives. Its retention knows only the vmid: where an archive is not
# known to be this owner's, nothing is pruned, not even what the storage's own settings would.
read_pruning() {
  local volume
  PRUNING=()
  if [[ -n ${OPTION[retention]+given} ]]; then PRUNING=(--prune-backups "${OPTION[retention]}"); fi
  for volume in "${ARCHIVES[@]}"; do
    read_notes "$ARCHIVE_DIR/${volume##*/}"
    # Two containers without an owner are not of the same one.
    [[ -z $OWNER_TENANT ]] || ! is_ours || continue
    printf 'warning: nothing is pruned: archive %s is not known to be of this pod\n' "$volume" >&2 || true
    PRUNING=(--prune-backups keep-all=1)
    return 0
  done
}

make_archive() {
  local -r notes="cloudpod tenant=${OWNER_TENANT:--} pod=${OWNER_POD:--} job=$JOB"
  BACKING_UP=yes
  # No waiting for vzdump's own lock: who comes second is better told so and tried again.
  local rc=0
  node_answer vzdump "$VMID" --storage "$TO" --mode "${OPTION[mode]}" --compress zstd \
    --notes-template "$notes" --lockwait 0 "${PRUNING[@]}" || rc=$?
  # Shown when it is through and not as it comes: a pipe in between would be one more thing to end when a signal arrives.
  printf '%s\n' "${ANSWER[@]}" >&2 || true
  ((rc == 0)) || fail_as_vzdump
  BACKING_UP=''
  read_removed
  read_archive_name
}

# vzdump says what went wrong on stdout, in lines that begin with ERROR.
fail_as_vzdump() {
  local line
  local -a errors=()
  for line in "${ANSWER[@]}"; do
    if [[ $line == 'ERROR: '* ]]; then errors+=("$line"); fi
  done
  MESSAGES=("${errors[@]}" "${MESSAGES[@]}")
  fail_as_node vzdump
}

# Leave the archive's volume id and size in ARCHIVE and SIZE. Whole lines only: vzdump also passes on what tar says of the
# guest's files, whose names may be anything.
read_archive_name() {
  local line file=''
  local -a size
  for line in "${ANSWER[@]}"; do
    if [[ $line =~ ^INFO:\ creating\ vzdump\ archive\ \'([^\']+)\'$ ]]; then file=${BASH_REMATCH[1]}; fi
  done
  [[ -n $file ]] || fail 1 "vzdump named no archive"
  ARCHIVE=$TO:backup/${file##*/}
  if [[ -f $file ]]; then
    lines_of size stat -c %s -- "$file"
    SIZE=${size[0]}
  else
    list_archives "$TO"
    SIZE=${ARCHIVE_SIZE[$ARCHIVE]:-0}
  fi
}

# Leave in REMOVED the archives that vzdump says it has removed.
read_removed() {
  local line
  REMOVED=()
  for line in "${ANSWER[@]}"; do
    if [[ $line =~ ^INFO:\ removing\ backup\ \'([^\']+)\'$ ]]; then REMOVED+=("${BASH_REMATCH[1]}"); fi
  done
}

# Refuse a storage that cannot hold archives, saying why.
require_backup_storage() {
  local line
  local -a fields
  node_answer pvesm status --storage "$TO" || fail_as_node "pvesm status"
  for line in "${ANSWER[@]}"; do
    read -r -a fields <<<"$line"
    [[ ${fields[0]:-} == "$TO" ]] || continue
    case ${fields[1]:-} in
      zfspool | zfs | lvm | lvmthin | rbd | iscsi | iscsidirect)
        fail 69 "storage '$TO' is a ${fields[1]}, which cannot hold archives: name one of type dir, nfs or cifs with the content 'backup'"
        ;;
    esac
  done
  require_storage "$TO" backup
}

# vzdump takes its own temporary files away; a lock it could not lift is worth a word.
# shellcheck disable=SC2329  # finish calls it
clean_up() {
  [[ -n $BACKING_UP ]] || return 0
  find_container
  [[ -n $CONF_FILE ]] || return 0
  read_container
  case ${CONF[lock]:-} in
    backup | snapshot | snapshot-delete) LEFT="lock '${CONF[lock]}' on container $VMID" ;;
  esac
}

main() {
  read_arguments 'mode storage retention tenant pod run' "$@"
  read_one_vmid
  require_options mode
  TO=${OPTION[storage]:-$BACKUP_STORAGE} JOB=${OPTION[run]:--} JOB=${JOB%.*}
  begin_run
  require_our_container
  TENANT=$OWNER_TENANT
  require_backup_storage
  list_archives "$TO"
  local result=created outcome=backed_up started=$EPOCHSECONDS
  if find_archive_of_job; then
    result=exists outcome=exists
  else
    read_pruning
    make_archive
  fi
  summarise VMID "$VMID"
  summarise Mode "${OPTION[mode]}"
  summarise Storage "$TO"
  summarise Archive "$ARCHIVE"
  summarise Size "$SIZE"
  summarise Duration $((EPOCHSECONDS - started))
  if ((${#REMOVED[@]} > 0)); then
    local IFS=,
    summarise Removed "${REMOVED[*]}"
  fi
  summarise Result "$result"
  succeed "$outcome" "$ARCHIVE"
}

main "$@"
