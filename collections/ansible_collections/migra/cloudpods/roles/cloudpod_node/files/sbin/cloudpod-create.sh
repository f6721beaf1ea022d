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

# What this run has begun, for clean_up.
RESERVED='' CREATING=''

read_create_arguments() {
  read_arguments 'vmid host tenant bridge storage cores mem swap ip auto-ip! disk ssh-keys template gw pod run' "$@"
  ((${#POSITIONAL[@]} == 0)) || refuse_arguments "unexpected argument"
  require_options vmid host tenant cores mem swap
  [[ -n ${OPTION[ip]+given} || -n ${OPTION[auto-ip]+given} ]] || refuse_arguments "ip: --ip or --auto-ip is required"
  [[ -z ${OPTION[ip]+given} || -z ${OPTION[auto-ip]+given} ]] || refuse_arguments "ip: --ip and --auto-ip exclude each other"
  VMID=${OPTION[vmid]} HOST=${OPTION[host]} TENANT=${OPTION[tenant]} POD=${OPTION[pod]:--}
  POD_GATEWAY=${OPTION[gw]:-$GATEWAY} POD_BRIDGE=${OPTION[bridge]:-$BRIDGE} POD_STORAGE=${OPTION[storage]:-$STORAGE}
  POD_DISK_GB=${OPTION[disk]:-$DISK_GB} POD_TEMPLATE=${OPTION[template]:-$TEMPLATE}
  if [[ -n ${OPTION[ip]+given} ]]; then check_address_range "${OPTION[ip]}" "$POD_GATEWAY"; fi
  read_ssh_keys
}

# Refuse a vmid that any node knows, unless it is what a killed create of the same pod left: that is removed.
make_vmid_free() {
  find_container
  [[ -n $CONF_FILE ]] || return 0
  if [[ $CONF_TYPE == lxc && $CONF_NODE == "$NODE" ]]; then
    read_container
    if is_unfinished && [[ $OWNER_TENANT == "$TENANT" && $OWNER_POD == "$POD" ]]; then
      LEFT="container $VMID, unfinished"
      remove_container "$POD_STORAGE" || fail_as_node "removing what an earlier create left of $VMID"
      LEFT=nothing
      return 0
    fi
  fi
  fail 73 "vmid $VMID already exists on node '$CONF_NODE'"
}

require_room() {
  require_storage "$POD_STORAGE" rootdir
  ((FREE_KIB >= POD_DISK_GB * 1048576)) ||
    fail 69 "storage '$POD_STORAGE' has $((FREE_KIB / 1048576)) GB free, $POD_DISK_GB GB are needed"
}

create_container() {
  local -a command=(pct create "$VMID" "$POD_TEMPLATE"
    --hostname "$HOST" --description "cloudpod tenant=$TENANT pod=$POD" --pool "$POOL"
    --unprivileged 1 --features nesting=1 --onboot 1
    --cores "${OPTION[cores]}" --memory "${OPTION[mem]}" --swap "${OPTION[swap]}"
    --rootfs "$POD_STORAGE:$POD_DISK_GB"
    --net0 "name=eth0,bridge=$POD_BRIDGE,firewall=1,gw=$POD_GATEWAY,ip=$IP/$PREFIX")
  if [[ -n $NAMESERVER ]]; then command+=(--nameserver "$NAMESERVER"); fi
  if [[ -n $SSH_KEYS ]]; then command+=(--ssh-public-keys "$SSH_KEYS"); fi
  CREATING=yes
  node_command "${command[@]}" && return 0
  read_node_message "pct create"
  # Somebody made this vmid by hand a moment ago: what stands there now is not ours to remove.
  [[ $NODE_MESSAGE != *'already exists on node'* ]] || CREATING=''
  fail_as_node "pct create"
}

# Remove what this run made, and only that: the marker must be ours, or the conf no more than a placeholder.
# shellcheck disable=SC2329  # finish calls it
clean_up() {
  local -a left=()
  if [[ -n $CREATING ]] && ! remove_own_container; then left+=("container $VMID"); fi
  if [[ -n $RESERVED ]]; then
    # While the container stands its address stays reserved, so that the next create of this pod finds both.
    if ((${#left[@]} > 0)); then
      left+=("address $IP reserved")
    elif ! free_address "$TENANT"; then
      left+=("the line of address $IP in $IPAM_FILE")
    fi
  fi
  if ((${#left[@]} > 0)); then printf -v LEFT '%s, ' "${left[@]}" && LEFT=${LEFT%, }; fi
}

# Return 1 when the container is still there.
# shellcheck disable=SC2329  # clean_up calls it
remove_own_container() {
  find_container
  [[ -n $CONF_FILE ]] || return 0
  [[ $CONF_TYPE == lxc && $CONF_NODE == "$NODE" ]] || return 1
  read_container
  conf_is_bare || [[ $OWNER_TENANT == "$TENANT" && $OWNER_POD == "$POD" ]] || return 1
  remove_container "$POD_STORAGE"
}

summarise_pod() {
  summarise VMID "$VMID"
  summarise Host "$HOST"
  summarise Tenant "$TENANT"
  summarise Pod "$POD"
  summarise IP "$IP"
  summarise Gateway "$POD_GATEWAY"
  summarise Bridge "$POD_BRIDGE"
  summarise Storage "$POD_STORAGE"
  summarise Disk "$POD_DISK_GB"
  summarise Cores "${OPTION[cores]}"
  summarise Memory "${OPTION[mem]}"
  summarise Swap "${OPTION[swap]}"
  summarise Status running
  summarise Result created
}

main() {
  read_create_arguments "$@"
  begin_run
  make_vmid_free
  require_room
  reserve_address "$HOST" "$TENANT" "$POD_GATEWAY" "${OPTION[ip]:-}"
  create_container
  write_firewall
  start_container
  # From here on the pod is complete: a signal that comes now is too late to undo it.
  ignore_signals
  activate_address
  summarise_pod
  succeed created "pod $VMID runs at $IP"
}

main "$@"
