#!/bin/bash
# Makes the lab's container template: a small Debian with systemd and sshd, as a tar that `pct create` unpacks.
# Python is what Ansible needs inside a pod.
# make-template.sh <suite> <file.tar.zst>.  The mirror is the one that apt of this machine uses.
set -euo pipefail
umask 022

readonly suite=$1 file=$2
readonly packages=systemd,systemd-sysv,dbus,openssh-server,iproute2,iputils-ping,procps,ca-certificates,python3

# apt's own list of what it fetches: the first source that is a whole Debian of that suite.
# shellcheck disable=SC2016  # apt expands these
mirror=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT) $(CREATED_BY)' |
  while read -r uri release component kind; do
    if [[ $release == "$suite" && $component == main && $kind == Packages ]]; then echo "$uri"; break; fi
  done)
[[ -n $mirror ]] || { echo "apt of this machine has no source of suite $suite" >&2; exit 1; }

work=$(mktemp -d "$file.XXXXXX")
trap 'rm -rf --one-file-system -- "$work" "$file.part"' EXIT
root=$work/root

debootstrap --variant=minbase --include="$packages" "$suite" "$root" "$mirror" >&2

# Fetch as this machine fetches: by the same proxy, if it has one.
apt-config dump Acquire::http Acquire::https Acquire::Check-Valid-Until >"$root/etc/apt/apt.conf.d/90node" 2>/dev/null || true
# What each container is to have of its own.
rm -f "$root"/etc/ssh/ssh_host_* "$root/etc/hostname" "$root/etc/resolv.conf" "$root"/var/cache/apt/archives/*.deb
: >"$root/etc/machine-id"
find "$root/var/lib/apt/lists" -type f -delete
rm -rf "${root:?}/usr/share/doc" "${root:?}/usr/share/man" "${root:?}/usr/share/locale"

tar --numeric-owner --xattrs --xattrs-include='*' -I 'zstd -q -T0 -6' -C "$root" -cpf "$file.part" .
mv -- "$file.part" "$file"
