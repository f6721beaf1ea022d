# migra.cloudpods: the making of a pod that was not there, from a template or from an archive: all of it or nothing.
# shellcheck shell=bash disable=SC2034
# (What is set here is read in other files.)
#
# VMID, HOST, TENANT, POD, POD_GATEWAY, POD_BRIDGE and POD_STORAGE are the script's; RESERVED and CREATING say what this
# run has begun, for undo_new_pod.
RESERVED='' CREATING=''

# Refuse the arguments unless they say which address a new pod gets.
check_address_choice() {
  [[ -n ${OPTION[ip]+given} || -n ${OPTION[auto-ip]+given} ]] || refuse_arguments "ip: --ip or --auto-ip is required"
  [[ -z ${OPTION[ip]+given} || -z ${OPTION[auto-ip]+given} ]] || refuse_arguments "ip: --ip and --auto-ip exclude each other"
  if [[ -n ${OPTION[ip]+given} ]]; then check_address_range "${OPTION[ip]}" "$POD_GATEWAY"; fi
}

# Refuse a vmid that any node knows, unless it is what a killed run left of the same pod: that is removed.
make_vmid_free() {
  find_container
  if [[ -n $CONF_FILE ]]; then read_container; fi
  ! is_unfinished_restore ||
    fail_taken vmid "vmid $VMID is of a pod whose restore did not come to its end: restore it again or destroy it"
  [[ -n $CONF_FILE ]] || return 0
  ! remove_unfinished || return 0
  # Another run of the same job may just have made it: then it is no one else's.
  [[ $OWNER_TENANT == "$TENANT" && $OWNER_POD == "$POD" ]] || TAKEN=vmid
  fail 73 "vmid $VMID already exists on node '$CONF_NODE'"
}

# Remove the container just found when it is what a killed run left of this pod; return 1 when it is not.
remove_unfinished() {
  [[ $CONF_TYPE == lxc && $CONF_NODE == "$NODE" ]] || return 1
  read_container
  is_unfinished && [[ $OWNER_TENANT == "$TENANT" && $OWNER_POD == "$POD" ]] || return 1
  LEFT="container $VMID, unfinished"
  remove_container "$POD_STORAGE" || fail_as_node "removing what an earlier run left of $VMID"
  LEFT=nothing
}

# Given GB, refuse unless the pod's storage has them free.
require_room() {
  require_storage "$POD_STORAGE" rootdir
  ((FREE_KIB >= $1 * 1048576)) ||
    fail 69 "storage '$POD_STORAGE' has $((FREE_KIB / 1048576)) GB free, $1 GB are needed"
}

# Leave the pod's interface in NET0, without a hardware address: Proxmox gives it a new one.
new_interface() {
  NET0="name=eth0,bridge=$POD_BRIDGE,firewall=1,gw=$POD_GATEWAY,ip=$IP/$PREFIX"
}

# Given the command that makes the container, `pct create …` or `pct restore …`, run it.
make_container() {
  CREATING=yes
  node_command "$@" && return 0
  read_node_message "$1 $2"
  # Somebody made this vmid by hand a moment ago: what stands there now is not ours to remove.
  [[ $NODE_MESSAGE != *'already exists on node'* ]] || CREATING='' TAKEN=vmid
  fail_as_node "$1 $2"
}

# Given the line about a restore (empty: none), bring up the container just made.
bring_up_pod() {
  write_firewall
  start_container
  note_guest "$1"
  # From here on the pod is complete: a signal that comes now is too late to undo it.
  ignore_signals
}

# Remove what this run made, and only that: the marker must be ours, or the conf no more than a placeholder.
# shellcheck disable=SC2329  # clean_up calls it
undo_new_pod() {
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
# shellcheck disable=SC2329  # undo_new_pod calls it
remove_own_container() {
  find_container
  [[ -n $CONF_FILE ]] || return 0
  [[ $CONF_TYPE == lxc && $CONF_NODE == "$NODE" ]] || return 1
  read_container
  conf_is_bare || [[ $OWNER_TENANT == "$TENANT" && $OWNER_POD == "$POD" ]] || return 1
  remove_container "$POD_STORAGE"
}

# The head of the summary, the same for every script that answers with a whole pod.
summarise_owner() {
  summarise VMID "$VMID"
  summarise Host "$HOST"
  summarise Tenant "$TENANT"
  summarise Pod "$POD"
  summarise IP "$IP"
}

# The end of the summary of a pod that was made: its state, its host key when it has one, and the result.
summarise_guest() {
  read_state
  summarise Status "$STATE"
  if [[ -n $HOST_KEY ]]; then summarise HostKey "$HOST_KEY"; fi
  summarise Result "$1"
}
