#!/bin/bash
# What the role and the lab might change of a machine, as text.
set -u
ip -br link | awk '{ print $1 }'
nft list ruleset 2>/dev/null
cat /proc/sys/net/ipv4/ip_forward
awk '{ print $2 }' /proc/mounts
getent passwd
getent group
find /etc/ssh /etc/sudoers.d /etc/sudoers -type f -exec sha256sum {} +
ls -d /run/sshd /var/lib/cloudpods-lab /run/lock/cloudpods 2>/dev/null
exit 0
