# migra.cloudpods: the address file. Lines of ours are `<ip> <vmid> <host> <tenant> <state>`; any other line is
# somebody's own: its first word, if an address, is taken, and the line is kept as it is.
# shellcheck shell=bash disable=SC2034
# (What is set here is read in other files.)

declare -ga IPAM_LINES=()   # the file, line by line
declare -gA IN_FILE=()      # address → how many lines begin with it
declare -gA IN_CONF=()      # address → yes, when a conf of any node has it

# Given a line, succeed when it is one of ours and leave its words in LINE_IP, LINE_VMID, LINE_HOST, LINE_TENANT and LINE_STATE.
parse_ipam_line() {
  local rest
  [[ $1 != [[:space:]]* ]] || return 1
  read -r LINE_IP LINE_VMID LINE_HOST LINE_TENANT LINE_STATE rest <<<"$1"
  [[ -z $rest && ($LINE_STATE == active || $LINE_STATE == reserved:*) ]] || return 1
  [[ $LINE_VMID =~ ${PATTERN[vmid]} && $LINE_IP =~ ${PATTERN[ip]} ]] || return 1
  [[ $LINE_HOST =~ ${PATTERN[host]} && $LINE_TENANT =~ ${PATTERN[tenant]} ]]
}

# Read the file into IPAM_LINES.
read_ipam() {
  IPAM_LINES=()
  if [[ -e $IPAM_FILE ]]; then mapfile -t IPAM_LINES <"$IPAM_FILE"; fi
}

# Write IPAM_LINES back. A reader, or a crash at any moment, sees the old file or the new one.
write_ipam() {
  local file=$IPAM_FILE
  local -a target=("$file")
  [[ ! -L $file ]] || lines_of target readlink -f -- "$file" || return 1
  file=${target[0]}
  local -r new=$file.cloudpods-new
  if ((${#IPAM_LINES[@]} > 0)); then printf '%s\n' "${IPAM_LINES[@]}"; fi >"$new" || return 1
  if [[ -e $file ]]; then chmod --reference="$file" -- "$new" || return 1; fi
  sync -- "$new" && mv -f -T -- "$new" "$file" && sync -- "${file%/*}"
}

# Leave the addresses that stand in the file in IN_FILE, and those in any conf of any node in IN_CONF. A thousand lines
# of either are read without a process for each.
read_taken_addresses() {
  local line word
  local -a nets
  IN_FILE=() IN_CONF=()
  for line in "${IPAM_LINES[@]}"; do
    word=${line#"${line%%[![:space:]]*}"}
    word=${word%%[!0-9.]*}
    if [[ -n $word ]]; then IN_FILE[$word]=$((${IN_FILE[$word]:-0} + 1)); fi
  done
  lines_of nets grep -rhsE --include='*.conf' '^(net|ipconfig)[0-9]+:' -- "$PVE_DIR/nodes" || true
  for line in "${nets[@]}"; do
    [[ $line == *[,\ ]ip=* ]] || continue
    word=${line##*[, ]ip=}
    word=${word%%[!0-9.]*}
    if [[ -n $word ]]; then IN_CONF[$word]=yes; fi
  done
}

# Given a dotted address, leave it as a number in NUMBER.
address_number() {
  local a b c d
  IFS=. read -r a b c d <<<"$1"
  NUMBER=$(((a << 24) + (b << 16) + (c << 8) + d))
}

# Given an address, refuse it unless it lies in the node's range and is not the gateway.
check_address_range() {
  local first last
  address_number "$ADDRESS_FIRST" && first=$NUMBER
  address_number "$ADDRESS_LAST" && last=$NUMBER
  address_number "$1"
  ((NUMBER >= first && NUMBER <= last)) || refuse_arguments "ip: outside this node's range $ADDRESS_FIRST to $ADDRESS_LAST"
  [[ $1 != "$2" ]] || refuse_arguments "ip: is the gateway"
}

# Given an address, succeed when it is held by nothing but one reserved line of a run that was killed; drop that line.
take_over_leftover() {
  local -i index
  [[ ${IN_FILE[$1]:-0} == 1 && -z ${IN_CONF[$1]:-} ]] || return 1
  for index in "${!IPAM_LINES[@]}"; do
    [[ ${IPAM_LINES[index]} == "$1"[[:blank:]]*reserved:* ]] || continue
    parse_ipam_line "${IPAM_LINES[index]}" && [[ $LINE_STATE == reserved:* ]] || return 1
    vmid_has_conf "$LINE_VMID" && return 1
    run_lock_is_held "$LINE_VMID" && return 1
    unset "IPAM_LINES[index]"
    return 0
  done
  return 1
}

# Given a vmid, succeed when any node has a conf of it.
vmid_has_conf() {
  local file
  for file in "$PVE_DIR"/nodes/*/{lxc,qemu-server}/"$1.conf"; do
    if [[ -f $file ]]; then return 0; fi
  done
  return 1
}

# Given a gateway, leave the lowest free address of the range in IP; return 1 when there is none.
pick_address() {
  local -i number last pass
  local ip
  address_number "$ADDRESS_LAST" && last=$NUMBER
  address_number "$ADDRESS_FIRST"
  local -ir first=NUMBER
  # What a killed run left is looked at only when nothing else is free: each look costs a process.
  for pass in 1 2; do
    for ((number = first; number <= last; number++)); do
      ip=$((number >> 24)).$((number >> 16 & 255)).$((number >> 8 & 255)).$((number & 255))
      # shellcheck disable=SC2153
      [[ $ip != "$1" && $ip != "$GATEWAY" ]] || continue  # the node's own gateway, whatever this pod's is
      if ((pass == 1)); then
        [[ -z ${IN_FILE[$ip]:-} && -z ${IN_CONF[$ip]:-} ]] || continue
      else
        take_over_leftover "$ip" || continue
      fi
      IP=$ip
      return 0
    done
  done
  return 1
}

# Given host, tenant, gateway and the wanted address (empty: any), write a reserved line for VMID and leave its address in IP.
reserve_address() {
  local -r host=$1 tenant=$2 gateway=$3 wanted=$4
  take_reservation_lock || fail 75 "the address file is busy: another run holds the reservation lock"
  read_ipam
  forget_lines "$tenant"
  read_taken_addresses
  if [[ -z $wanted ]]; then
    pick_address "$gateway" || fail 69 "no free address from $ADDRESS_FIRST to $ADDRESS_LAST"
  elif [[ -z ${IN_FILE[$wanted]:-} && -z ${IN_CONF[$wanted]:-} ]] || take_over_leftover "$wanted"; then
    IP=$wanted
  else
    fail_taken ip "address $wanted is taken"
  fi
  IPAM_LINES+=("$IP $VMID $host $tenant reserved:${OPTION[run]:--}")
  RESERVED=yes
  write_ipam || fail 1 "$IPAM_FILE could not be written"
  release_reservation_lock
}

# Given a tenant (empty: any), take VMID's lines of that tenant out of IPAM_LINES; leave the last one's address in FREED_IP.
forget_lines() {
  local -i index
  FREED_IP=''
  for index in "${!IPAM_LINES[@]}"; do
    [[ ${IPAM_LINES[index]} == *[[:blank:]]"$VMID"[[:blank:]]* ]] || continue
    parse_ipam_line "${IPAM_LINES[index]}" || continue
    [[ $LINE_VMID == "$VMID" && (-z $1 || $1 == "$LINE_TENANT") ]] || continue
    FREED_IP=$LINE_IP
    unset "IPAM_LINES[index]"
  done
}

# Given host and tenant, make sure that VMID's address IP has an active line of theirs, and set ADDED and RESULT when it
# had none; exit 73 when it is another's.
claim_address() {
  local -r wanted="$IP $VMID $1 $2 active"
  local lines
  take_reservation_lock || fail 75 "the address file is busy: another run holds the reservation lock"
  read_ipam
  printf -v lines '%s\n' "${IPAM_LINES[@]}"
  if [[ $'\n'$lines != *$'\n'"$wanted"$'\n'* ]]; then
    forget_lines "$2"
    read_taken_addresses
    [[ -z ${IN_FILE[$IP]:-} ]] || fail 73 "address $IP is taken"
    IPAM_LINES+=("$wanted")
    RESULT=adopted
    # An older line of this pod that is replaced was there before: a failure may not take it away.
    if [[ -z $FREED_IP ]]; then ADDED=yes; fi
    write_ipam || fail 1 "$IPAM_FILE could not be written"
  fi
  release_reservation_lock
}

# Given a tenant (empty: any), free VMID's addresses of that tenant; leave the address in FREED_IP.
free_address() {
  local rc=0
  take_reservation_lock || return 1
  read_ipam
  forget_lines "$1"
  if [[ -n $FREED_IP ]]; then write_ipam || rc=1; fi
  release_reservation_lock
  return "$rc"
}

# Turn VMID's reserved line into an active one.
activate_address() {
  local -i index
  take_reservation_lock || fail 75 "the address file is busy: another run holds the reservation lock"
  read_ipam
  for index in "${!IPAM_LINES[@]}"; do
    [[ ${IPAM_LINES[index]} == "$IP $VMID "*" reserved:"* ]] || continue
    IPAM_LINES[index]="${IPAM_LINES[index]% reserved:*} active"
  done
  write_ipam || fail 1 "$IPAM_FILE could not be written"
  release_reservation_lock
}

# Succeed when a line names VMID, leaving its words in LINE_…, those of a reserved one before others. Readers need no lock:
# the file is replaced whole.
has_line() {
  local line active=''
  read_ipam
  for line in "${IPAM_LINES[@]}"; do
    [[ $line == *[[:blank:]]"$VMID"[[:blank:]]* ]] || continue
    parse_ipam_line "$line" && [[ $LINE_VMID == "$VMID" ]] || continue
    [[ $LINE_STATE != reserved:* ]] || return 0
    active=$line
  done
  [[ -n $active ]] && parse_ipam_line "$active"
}

# Succeed when the container just read is what a killed run left: no more of a conf than pct writes first (then the owner is
# the line's), or our marker in the description while the address is still reserved. Needs the run lock.
is_unfinished() {
  has_line || return 1
  if conf_is_bare && [[ -z $OWNER_TENANT ]]; then
    OWNER_TENANT=$LINE_TENANT OWNER_POD=${OPTION[pod]:--}
    return 0
  fi
  [[ $LINE_STATE == reserved:* && $OWNER_TENANT == "$LINE_TENANT" ]]
}
