# migra.cloudpods: loads everything the node scripts share.
# shellcheck shell=bash
#
# | file             | about                                                     |
# |------------------|-----------------------------------------------------------|
# | settings.bash    | what differs from node to node; the only templated file   |
# | arguments.bash   | options and the patterns every value must match           |
# | node.bash        | what Proxmox's files say, and starting Proxmox's commands |
# | description.bash | the lines of a container's description                    |
# | note.bash        | what a restore in place is doing, noted outside the conf    |
# | last.bash        | which job did the last thing that may not be done twice   |
# | locks.bash       | the run lock and the reservation lock                     |
# | holder.bash      | who holds the run lock, and the ending of that            |
# | ipam.bash        | the address file                                          |
# | firewall.bash    | a pod's firewall file                                     |
# | archive.bash     | archives: whose they are and what is in them              |
# | pod.bash         | making a pod that was not there                           |
# | place.bash       | a restore over a pod that is there, or that was           |
# | log.bash         | one JSON line per run                                     |
# | run.bash         | a run's life: begin, signals, failure, end                |

# The collection's, which cloudpod-info.sh tells, so that a node with older scripts is known.
# shellcheck disable=SC2034
declare -gr SCRIPTS_VERSION=0.1.0
LC_ALL=C
export LC_ALL
shopt -s lastpipe # for lines_of, and take_scratch

# shellcheck source=/dev/null
source "$LIBRARY_DIR/settings.bash"
export PATH
# shellcheck source=arguments.bash
source "$LIBRARY_DIR/arguments.bash"
# shellcheck source=node.bash
source "$LIBRARY_DIR/node.bash"
# shellcheck source=description.bash
source "$LIBRARY_DIR/description.bash"
# shellcheck source=note.bash
source "$LIBRARY_DIR/note.bash"
# shellcheck source=last.bash
source "$LIBRARY_DIR/last.bash"
# shellcheck source=locks.bash
source "$LIBRARY_DIR/locks.bash"
# shellcheck source=holder.bash
source "$LIBRARY_DIR/holder.bash"
# shellcheck source=ipam.bash
source "$LIBRARY_DIR/ipam.bash"
# shellcheck source=firewall.bash
source "$LIBRARY_DIR/firewall.bash"
# shellcheck source=archive.bash
source "$LIBRARY_DIR/archive.bash"
# shellcheck source=pod.bash
source "$LIBRARY_DIR/pod.bash"
# shellcheck source=place.bash
source "$LIBRARY_DIR/place.bash"
# shellcheck source=log.bash
source "$LIBRARY_DIR/log.bash"
# shellcheck source=run.bash
source "$LIBRARY_DIR/run.bash"
