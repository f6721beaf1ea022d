#!/bin/bash -p
# migra.cloudpods: makes a container that was made by hand a pod of ours.
set -euo pipefail
umask 077
PATH=/usr/sbin:/usr/bin:/sbin:/bin

SCRIPT_FILE=$(readlink -f -- "${BASH_SOURCE[0]}")
SCRIPT=${SCRIPT_FILE##*/} SCRIPT=${SCRIPT%.sh}
LIBRARY_DIR=${SCRIPT_FILE%/*}/../lib/cloudpods
# shellcheck source=library.bash
source "$LIBRARY_DIR/library.bash"

USAGE="$SCRIPT.sh <vmid> --tenant ID --pod ID [--run ID]"

# The address line that this run has added, for clean_up.
ADDED=''

# Refuse a container that is somebody's already. The owner is not told.
require_adoptable() {
  [[ -z $OWNER_TENANT || $OWNER_TENANT == "$TENANT" ]] || fail 77 "container $VMID does not belong to tenant $TENANT"
  [[ -z $OWNER_TENANT || $OWNER_POD == - || $OWNER_POD == "$POD" ]] || fail 77 "container $VMID is not pod $POD"
  read_address
  [[ -n $IP ]] || fail 1 "container $VMID has no fixed address on net0"
  [[ $IP != "$GATEWAY" ]] || fail 73 "address $IP of container $VMID is the gateway's"
  require_only_user
}

# Refuse an address that the conf of any other guest, on any node, names too.
require_only_user() {
  local file
  local -a files
  lines_of files grep -rlsE --include='*.conf' "^(net|ipconfig)[0-9]+:.*[, ]ip=${IP//./\\.}(/|,|\$)" -- "$PVE_DIR/nodes" || true
  for file in "${files[@]}"; do
    [[ $file == "$CONF_FILE" ]] || fail 73 "address $IP of container $VMID is also in the conf of another guest"
  done
}

# Write the address line before the marker: a run that is ended in between is repeated and finds its own line.
adopt() {
  claim_address "$HOST" "$TENANT"
  describe "cloudpod tenant=$TENANT pod=$POD" "${HOST_KEY:+host-key $HOST_KEY}" "$RESTORED"
  if [[ ${DESCRIPTION[*]} != *"cloudpod tenant=$TENANT pod=$POD"* ]]; then RESULT=adopted; fi
  write_firewall
  write_description || fail_as_node "pct set"
}

# shellcheck disable=SC2329  # finish calls it
clean_up() {
  [[ -n $ADDED ]] || return 0
  find_container
  if [[ -n $CONF_FILE ]]; then
    read_container
    [[ $OWNER_TENANT != "$TENANT" ]] || return 0 # it was this tenant's before, or is now: so is the address
  fi
  free_address "$TENANT" || LEFT="the line of address $IP in $IPAM_FILE"
}

main() {
  read_arguments 'tenant pod run' "$@"
  read_one_vmid
  require_options tenant pod
  TENANT=${OPTION[tenant]} POD=${OPTION[pod]} RESULT=unchanged
  begin_run
  find_container
  require_container_here
  require_pool
  read_container
  require_at_rest
  HOST=${CONF[hostname]:-CT$VMID}
  require_adoptable
  adopt
  summarise_owner
  summarise Result "$RESULT"
  succeed "$RESULT" "container $VMID is pod $POD of tenant $TENANT"
}

main "$@"
