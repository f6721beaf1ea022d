# migra.cloudpods: the note of a restore in place. Proxmox wipes the conf when it begins, so what is under way, and what the
# pod was, stands in <state_dir>/restoring/<vmid> from before that until the restore is complete.
# shellcheck shell=bash disable=SC2034
# (What is set here is read in other files.)
#
# A note is a first line `restoring: job=… archive=… tenant=… pod=… was=… begun=…` and then the pod's conf, its current
# section. `begun=yes`: the old disks are known to be gone. Beside it, <vmid>.fw is the pod's firewall file.

declare -gr NOTE_LINE='^restoring: job=([^ ]+) archive=([^ ]+) tenant=([^ ]+) pod=([^ ]+) was=(running|stopped) begun=(yes|no)$'

# Read VMID's note; return 1 when there is none.
read_note() {
  local line
  NOTE_FILE=$STATE_DIR/restoring/$VMID NOTE_JOB='' NOTE_ARCHIVE='' NOTE_TENANT='' NOTE_POD='' NOTE_WAS='' NOTE_BEGUN=''
  NOTE_ROOT='' NOTE_STORAGES=()
  [[ -f $NOTE_FILE ]] || return 1
  while IFS= read -r line; do
    if [[ $line =~ $NOTE_LINE ]]; then
      NOTE_JOB=${BASH_REMATCH[1]} NOTE_ARCHIVE=${BASH_REMATCH[2]} NOTE_TENANT=${BASH_REMATCH[3]}
      NOTE_POD=${BASH_REMATCH[4]} NOTE_WAS=${BASH_REMATCH[5]} NOTE_BEGUN=${BASH_REMATCH[6]}
    elif [[ $line =~ ^(rootfs|mp[0-9]+):\ (volume=)?([^/:,]+):([^,]+) ]]; then
      NOTE_STORAGES+=("${BASH_REMATCH[3]}")
      [[ $line != rootfs:* ]] || NOTE_ROOT=${BASH_REMATCH[3]}:${BASH_REMATCH[4]}
    fi
  done <"$NOTE_FILE"
  [[ -n $NOTE_TENANT ]] || fail 1 "the note $NOTE_FILE cannot be read: look what is left of container $VMID"
}

# Given a folder of the state's and a text, make that VMID's file there, durably and whole; return 1 when it cannot be.
write_state() {
  local -r folder=$STATE_DIR/$1
  local -r new=$folder/.$VMID.new
  # In one write, whose failure is seen: half a note would be half a pod.
  mkdir -p -- "$folder" && printf '%s' "$2" >"$new" && sync -- "$new" && mv -f -T -- "$new" "$folder/$VMID" && sync -- "$folder"
}

# Given was (running, stopped) and begun (yes, no), note durably what is to come and CONF and DESCRIPTION, the pod as it is.
write_note() {
  local text
  compose_note "$1" "$2"
  write_state restoring "$text" || fail 1 "cannot write $STATE_DIR/restoring/$VMID"
  read_note
}

# Leave the note's text in the caller's `text`.
compose_note() {
  local line name
  printf -v text 'restoring: job=%s archive=%s tenant=%s pod=%s was=%s begun=%s\n' "$JOB" "$ARCHIVE" "$TENANT" "$POD" "$1" "$2"
  for line in "${DESCRIPTION[@]}"; do
    line=${line//%/%25}
    text+="#${line//$'\n'/%0A}"$'\n'
  done
  for name in "${!CONF[@]}"; do
    if [[ $name != lock ]]; then text+="$name: ${CONF[$name]}"$'\n'; fi
  done
}

# Keep the pod's firewall file beside the note that is to be written: Proxmox lays the archive's over it.
keep_firewall() {
  local -r folder=$STATE_DIR/restoring file=$PVE_DIR/firewall/$VMID.fw
  mkdir -p -- "$folder" || fail 1 "cannot make $folder"
  rm -f -- "$folder/$VMID.fw"
  [[ ! -s $file ]] || cp -- "$file" "$folder/$VMID.fw" || fail 1 "cannot keep $file in $folder"
}

# Lay the firewall file that keep_firewall kept.
lay_kept_firewall() {
  local -r kept=$STATE_DIR/restoring/$VMID.fw file=$PVE_DIR/firewall/$VMID.fw
  [[ -s $kept ]] || return 0
  if ! { mkdir -p -- "${file%/*}" && cp -- "$kept" "$file.part" && mv -f -- "$file.part" "$file"; }; then
    fail 1 "cannot write $file"
  fi
}

# Read the noted pod into CONF and DESCRIPTION, as read_container does a container's.
read_noted_pod() {
  local CONF_FILE=$NOTE_FILE
  read_container
  unset 'CONF[restoring]'
}

# Forget the restore: it is complete, or was never begun. On the disk too, lest a crash bring it back.
drop_note() {
  local -r folder=$STATE_DIR/restoring
  [[ -e $folder/$VMID ]] || return 0
  rm -f -- "$folder/$VMID" "$folder/$VMID.fw" && sync -- "$folder"
}

# Succeed when the container just read is the noted pod as it was: Proxmox had not begun. It may still be locked.
note_is_of_present_disk() {
  local volume=${CONF[rootfs]:-}
  volume=${volume#volume=}
  [[ $NOTE_BEGUN == no && -n $NOTE_ROOT && ${volume%%,*} == "$NOTE_ROOT" ]]
}

note_is_stale() {
  note_is_of_present_disk && [[ ${CONF[lock]:-} != create ]]
}

# Succeed when the container just read, or its absence, is what a restore in place left that was ended; leave in OWNER_TENANT
# and OWNER_POD whose it is. A whole container of another owner has nothing to do with the note. Needs the run lock.
is_unfinished_restore() {
  read_note || return 1
  if [[ -n $CONF_FILE ]] && ! conf_is_bare; then
    [[ $OWNER_TENANT == "$NOTE_TENANT" && $OWNER_POD == "$NOTE_POD" ]] || return 1
    # Not a bare return: in a trap that gives the status of what ran before the trap.
    if note_is_stale; then return 1; else return 0; fi
  fi
  OWNER_TENANT=$NOTE_TENANT OWNER_POD=$NOTE_POD
}

# Drop the note of a restore that never began, or that has nothing to do with the container just read; refuse to touch what
# any other left.
settle_note() {
  ! is_unfinished_restore ||
    fail 75 "container $VMID is an unfinished restore: restore it again from $NOTE_ARCHIVE or destroy it"
  drop_note
}

# Succeed when every disk that the conf just read names is on its storage: then Proxmox has not begun to free them.
# shellcheck disable=SC2329
has_all_disks() {
  local name volume volumes
  for name in "${!CONF[@]}"; do
    [[ $name == rootfs || $name == mp[0-9]* ]] || continue
    volume=${CONF[$name]%%,*} volume=${volume#volume=}
    [[ $volume == *:* ]] || continue
    node_answer pvesm list "${volume%%:*}" --vmid "$VMID" || return 1
    printf -v volumes '%s\n' "${ANSWER[@]}"
    [[ $'\n'$volumes == *$'\n'"$volume "* ]] || return 1
  done
}

# Free what carries VMID on the storages that the note names, when no conf does any more.
free_noted_disks() {
  local storage
  for storage in "${NOTE_STORAGES[@]}"; do
    free_nameless_disks "$storage" || return 1
  done
}
