#!/bin/bash -p
# migra.cloudpods: creates one pod, or leaves nothing behind.
set -euo pipefail
umask 077
PATH=/usr/sbin:/usr/bin:/sbin:/bin

SCRIPT_FILE=$(readlink -f -- "${BASH_SOURCE[0]}")
SCRIPT=${SCRIPT_FILE##*/} SCRIPT=${SCRIPT%.sh}
LIBRARY_DIR=${SCRIPT_FILE%/*}/../lib/cloudpods
# shellcheck source=library.bash
source "$LIBRARY_DIR/library.bash"

USAGE="$SCRIPT.sh --vmid N --host NAME --tenant ID [--bridge B] [--storage S] --cores N --mem MB --swap MB \
(--ip A.B.C.D | --auto-ip) [--disk GB] [--ssh-keys FILE] [--template VOL] [--gw IP] [--pod ID] [--run ID]"

read_create_arguments() {
  read_arguments 'vmid host tenant bridge storage cores mem swap ip auto-ip! disk ssh-keys template gw pod run' "$@"
  ((${#POSITIONAL[@]} == 0)) || refuse_arguments "unexpected argument"
  require_options vmid host tenant cores mem swap
  VMID=${OPTION[vmid]} HOST=${OPTION[host]} TENANT=${OPTION[tenant]} POD=${OPTION[pod]:--}
  POD_GATEWAY=${OPTION[gw]:-$GATEWAY} POD_BRIDGE=${OPTION[bridge]:-$BRIDGE} POD_STORAGE=${OPTION[storage]:-$STORAGE}
  POD_DISK_GB=${OPTION[disk]:-$DISK_GB} POD_TEMPLATE=${OPTION[template]:-$TEMPLATE}
  check_address_choice
  read_ssh_keys
}

create_container() {
  new_interface
  local -a command=(pct create "$VMID" "$POD_TEMPLATE"
    --hostname "$HOST" --description "cloudpod tenant=$TENANT pod=$POD" --pool "$POOL"
    --unprivileged 1 --features nesting=1 --onboot 1
    --cores "${OPTION[cores]}" --memory "${OPTION[mem]}" --swap "${OPTION[swap]}"
    --rootfs "$POD_STORAGE:$POD_DISK_GB"
    --net0 "$NET0")
  if [[ -n $NAMESERVER ]]; then command+=(--nameserver "$NAMESERVER"); fi
  if [[ -n $SSH_KEYS ]]; then command+=(--ssh-public-keys "$SSH_KEYS"); fi
  make_container "${command[@]}"
}

# shellcheck disable=SC2329  # finish calls it
clean_up() { undo_new_pod; }

summarise_pod() {
  summarise_owner
  summarise Gateway "$POD_GATEWAY"
  summarise Bridge "$POD_BRIDGE"
  summarise Storage "$POD_STORAGE"
  summarise Disk "$POD_DISK_GB"
  summarise Cores "${OPTION[cores]}"
  summarise Memory "${OPTION[mem]}"
  summarise Swap "${OPTION[swap]}"
  summarise_guest created
}

main() {
  read_create_arguments "$@"
  begin_run
  make_vmid_free
  require_room "$POD_DISK_GB"
  reserve_address "$HOST" "$TENANT" "$POD_GATEWAY" "${OPTION[ip]:-}"
  create_container
  bring_up_pod ''
  activate_address
  summarise_pod
  succeed created "pod $VMID runs at $IP"
}

main "$@"
