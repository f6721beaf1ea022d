# migra.cloudpods: a pod's firewall file. With ipfilter and macfilter Proxmox lets a container send only as itself.
# shellcheck shell=bash

# Write the firewall file of VMID, unless one with rules in it is there already: that one is a site's. An empty one is what
# `pct restore` makes of an archive whose container had none.
write_firewall() {
  local -r folder=$PVE_DIR/firewall
  local -r file=$folder/$VMID.fw
  [[ ! -s $file ]] || return 0
  if ! { mkdir -p -- "$folder" && print_firewall >"$file.part" && mv -f -- "$file.part" "$file"; }; then
    rm -f -- "$file.part" || true
    fail 1 "cannot write $file"
  fi
}

print_firewall() {
  printf '%s\n' '[OPTIONS]' '' 'enable: 1' 'ipfilter: 1' 'macfilter: 1' 'policy_in: ACCEPT' 'policy_out: ACCEPT'
}
