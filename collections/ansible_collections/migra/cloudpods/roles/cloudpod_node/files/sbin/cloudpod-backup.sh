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

USAGE="$SCRIPT.sh <vmid> --mode snapshot|suspend|stop [--storage S] [--tenant ID] [--pod ID] [--run ID]"

ARCHIVE='' SIZE=0 BACKING_UP=''

# Fill ARCHIVES with VMID's archives on the storage and ARCHIVE_SIZE with their bytes, by volume id.
list_archives() {
  local line
  local -a fields
  ARCHIVES=()
  declare -gA ARCHIVE_SIZE=()
  node_answer pvesm list "$TO" --content backup --vmid "$VMID" || fail_as_node "pvesm list"
  for line in "${ANSWER[@]}"; do
    read -r -a fields <<<"$line"
    [[ ${fields[0]:-} == "$TO:"*"vzdump-lxc-$VMID-"* ]] || continue
    ARCHIVES+=("${fields[0]}")
    ARCHIVE_SIZE[${fields[0]}]=${fields[3]:-0}
  done
}

# Succeed when this job's archive is there already, and leave it in ARCHIVE. The notes are written last, so an archive
# that has them is whole. They lie beside it, hence one path is enough for all.
find_archive_of_job() {
  local volume notes folder
  list_archives
  ((${#ARCHIVES[@]} > 0)) || return 1
  node_answer pvesm path "${ARCHIVES[0]}" || return 1
  folder=${ANSWER[0]%/*}
  for volume in "${ARCHIVES[@]}"; do
    notes=$folder/${volume##*/}.notes
    [[ -f $notes ]] || continue
    if [[ " $(<"$notes") " == *" job=$JOB "* ]]; then
      ARCHIVE=$volume SIZE=${ARCHIVE_SIZE[$volume]}
      return 0
    fi
  done
  return 1
}

make_archive() {
  local -r notes="cloudpod tenant=${OWNER_TENANT:--} pod=${OWNER_POD:--} job=$JOB"
  BACKING_UP=yes
  # A minute for vzdump's own lock, not its three hours: who has to wait longer is better told so and tried again.
  local rc=0
  node_answer vzdump "$VMID" --storage "$TO" --mode "${OPTION[mode]}" --compress zstd \
    --notes-template "$notes" --lockwait 1 || rc=$?
  # Shown when it is through and not as it comes: a pipe in between would be one more thing to end when a signal arrives.
  printf '%s\n' "${ANSWER[@]}" >&2 || true
  ((rc == 0)) || fail_as_vzdump
  BACKING_UP=''
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

# Leave the archive's volume id and size in ARCHIVE and SIZE.
read_archive_name() {
  local line file=''
  for line in "${ANSWER[@]}"; do
    if [[ $line =~ creating\ vzdump\ archive\ \'([^\']+)\' ]]; then file=${BASH_REMATCH[1]}; fi
  done
  [[ -n $file ]] || fail 1 "vzdump named no archive"
  ARCHIVE=$TO:backup/${file##*/}
  if [[ -f $file ]]; then
    SIZE=$(stat -c %s -- "$file")
  else
    list_archives
    SIZE=${ARCHIVE_SIZE[$ARCHIVE]:-0}
  fi
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
  read_arguments 'mode storage tenant pod run' "$@"
  read_one_vmid
  require_options mode
  TO=${OPTION[storage]:-$BACKUP_STORAGE} JOB=${OPTION[run]:--} JOB=${JOB%.*}
  begin_run
  require_our_container
  TENANT=$OWNER_TENANT
  require_storage "$TO" backup
  local result=created outcome=backed_up started=$EPOCHSECONDS
  if [[ $JOB != - ]] && find_archive_of_job; then
    result=exists outcome=exists
  else
    make_archive
  fi
  summarise VMID "$VMID"
  summarise Mode "${OPTION[mode]}"
  summarise Storage "$TO"
  summarise Archive "$ARCHIVE"
  summarise Size "$SIZE"
  summarise Duration $((EPOCHSECONDS - started))
  summarise Result "$result"
  succeed "$outcome" "$ARCHIVE"
}

main "$@"
