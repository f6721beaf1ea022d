# migra.cloudpods: options and the patterns every value must match, before anything is done.
# shellcheck shell=bash disable=SC2034
# (What is set here is read in other files.)

declare -gA OPTION=()       # the options given, by name
declare -ga POSITIONAL=()   # everything that is no option

declare -gr VMID_PATTERN='^[1-9][0-9]{2,8}$'
declare -gr LABEL='[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?'
declare -gr OWNER_PATTERN='^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$'
declare -gr OCTET='(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])'
declare -gr PERCENT='^([1-9][0-9]?|100)$'
declare -gr PERCENT_RULE='percent, a number from 1 to 100'
declare -gr KEEP='keep-(last|hourly|daily|weekly|monthly|yearly)=[0-9]{1,3}'
declare -gr ADDRESS="$OCTET\\.$OCTET\\.$OCTET\\.$OCTET"

# Each kind of value: its pattern, and the rule in words for the message.
declare -grA PATTERN=(
  [vmid]="$VMID_PATTERN"
  [host]="^$LABEL(\\.$LABEL)*\$"
  [tenant]="$OWNER_PATTERN"
  [pod]="$OWNER_PATTERN"
  [run]='^[A-Za-z0-9][A-Za-z0-9_-]{0,63}(\.[0-9]{1,4})?$'
  [bridge]='^[A-Za-z][A-Za-z0-9_.-]{0,14}$'
  [storage]='^[A-Za-z][A-Za-z0-9_.-]{0,62}[A-Za-z0-9]$'
  [cores]='^[1-9][0-9]{0,2}$'
  [mem]='^[1-9][0-9]{1,6}$'
  [swap]='^(0|[1-9][0-9]{0,6})$'
  [disk]='^[1-9][0-9]{0,4}$'
  [ip]="^$ADDRESS\$"
  [gw]="^$ADDRESS\$"
  [ssh-keys]='^[^[:cntrl:]]{1,4096}$'
  [template]='^[A-Za-z][A-Za-z0-9_.-]*:vztmpl/[A-Za-z0-9][A-Za-z0-9_.+-]*$'
  [mode]='^(snapshot|suspend|stop)$'
  [state]='^(running|stopped|restarted)$'
  [shutdown-timeout]='^[1-9][0-9]{0,3}$'
  [wait]='^[1-9][0-9]{0,2}$'
  [action]='^(create|rollback|delete)$'
  [name]='^[A-Za-z][A-Za-z0-9_-]{1,39}$'
  [guest-timeout]='^[1-9][0-9]?$'
  [memory-warning]="$PERCENT"
  [memory-critical]="$PERCENT"
  [swap-warning]="$PERCENT"
  [disk-warning]="$PERCENT"
  [disk-critical]="$PERCENT"
  [archive]='^[A-Za-z][A-Za-z0-9_.-]*:backup/vzdump-lxc-[1-9][0-9]{2,8}-[0-9_]{10}-[0-9_]{8}\.tar(\.(zst|gz|lzo))?$'
  [from-pod]="$OWNER_PATTERN"
  [retention]="^$KEEP(,$KEEP)*\$"
)
declare -grA RULE=(
  [vmid]='a number from 100 to 999999999'
  [host]='a DNS name: labels of letters, digits and inner hyphens, at most 63 characters each and 253 in all'
  [tenant]='1 to 64 of letters, digits, . _ : -, beginning with a letter or digit'
  [pod]='1 to 64 of letters, digits, . _ : -, beginning with a letter or digit'
  [run]='<job>.<attempt>: the job 1 to 64 of letters, digits, _ -, the attempt up to four digits'
  [bridge]='a letter, then up to 14 of letters, digits, _ . -'
  [storage]='2 to 64 of letters, digits, _ . -, beginning with a letter, ending with a letter or digit'
  [cores]='a number from 1 to 128'
  [mem]='MiB, a number from 16 to 1048576'
  [swap]='MiB, a number from 0 to 1048576'
  [disk]='GB, a number from 1 to 16384'
  [ip]='an IPv4 address, four numbers from 0 to 255 without leading zeros'
  [gw]='an IPv4 address, four numbers from 0 to 255 without leading zeros'
  [ssh-keys]="a *.pub file directly inside the node's keys folder, no link"
  [template]='<storage>:vztmpl/<file>'
  [mode]='snapshot, suspend or stop'
  [state]='running, stopped or restarted'
  [shutdown-timeout]='seconds, a number from 1 to 3600'
  [wait]='seconds, a number from 1 to 600'
  [action]='create, rollback or delete'
  [guest-timeout]='seconds for each guest, a number from 1 to 60'
  [memory-warning]="$PERCENT_RULE"
  [memory-critical]="$PERCENT_RULE"
  [swap-warning]="$PERCENT_RULE"
  [disk-warning]="$PERCENT_RULE"
  [disk-critical]="$PERCENT_RULE"
  [archive]='<storage>:backup/vzdump-lxc-<vmid>-<date>-<time>.tar, .tar.zst, .tar.gz or .tar.lzo'
  [from-pod]='1 to 64 of letters, digits, . _ : -, beginning with a letter or digit'
  [retention]='keep-last=N, keep-hourly=N, keep-daily=N, keep-weekly=N, keep-monthly=N, keep-yearly=N, joined by commas, N up to 999, at least one above 0, none twice'
  [name]='2 to 40 of letters, digits, _ -, beginning with a letter; not current, pending or vzdump'
)
declare -grA LOWEST=([cores]=1 [mem]=16 [swap]=0 [disk]=1 [shutdown-timeout]=1 [wait]=1 [guest-timeout]=1)
declare -grA HIGHEST=([cores]=128 [mem]=1048576 [swap]=1048576 [disk]=16384 [shutdown-timeout]=3600 [wait]=600 [guest-timeout]=60)

# Refuse the arguments: usage and the reason on stderr, exit 64. Nothing has been done, so nothing is logged.
refuse_arguments() {
  printf 'Usage: %s\n' "$USAGE" >&2 || true
  print_failure "$1" no nothing
  exit 64
}

# Given a kind and a value, refuse unless the value is of that kind.
check_value() {
  local kind=$1 value=$2
  [[ $value =~ ${PATTERN[$kind]} ]] || refuse_arguments "$kind: ${RULE[$kind]}"
  if [[ -n ${LOWEST[$kind]:-} ]]; then
    ((value >= LOWEST[$kind] && value <= HIGHEST[$kind])) || refuse_arguments "$kind: ${RULE[$kind]}"
  fi
  case $kind:$value in
    host:*) ((${#value} <= 253)) || refuse_arguments "$kind: ${RULE[$kind]}" ;;
    retention:*) check_retention "$value" ;;
    name:current | name:pending | name:vzdump) refuse_arguments "$kind: ${RULE[$kind]}" ;; # words of Proxmox's own
  esac
}

# Given a retention of the right shape, refuse it when it keeps nothing or says the same thing twice.
check_retention() {
  local part keys=' '
  [[ $1 =~ =0*[1-9] ]] || refuse_arguments "retention: ${RULE[retention]}"
  for part in ${1//,/ }; do
    [[ $keys != *" ${part%=*} "* ]] || refuse_arguments "retention: ${RULE[retention]}"
    keys+="${part%=*} "
  done
}

# Given the names of the options a script knows (a flag ends in "!") and its arguments,
# fill OPTION and POSITIONAL; refuse what is unknown, twice, without a value or of a wrong shape.
read_arguments() {
  local -r known=" $1 "
  shift
  local name value
  while (($# > 0)); do
    if [[ $1 != -* ]]; then
      POSITIONAL+=("$1")
      shift
      continue
    fi
    [[ $1 =~ ^--([a-z][a-z-]*)(=.*)?$ ]] || refuse_arguments "unknown option"
    name=${BASH_REMATCH[1]} value=${BASH_REMATCH[2]}
    [[ $known == *" $name "* || $known == *" $name! "* ]] || refuse_arguments "unknown option --$name"
    [[ -z ${OPTION[$name]+given} ]] || refuse_arguments "$name: given twice"
    if [[ $known == *" $name! "* ]]; then
      [[ -z $value ]] || refuse_arguments "$name: takes no value"
      OPTION[$name]=yes
      shift
      continue
    fi
    if [[ -n $value ]]; then
      value=${value#=}
      shift
    else
      (($# >= 2)) || refuse_arguments "$name: a value is missing"
      value=$2
      shift 2
    fi
    [[ $value != -* ]] || refuse_arguments "$name: a value may not begin with -"
    check_value "$name" "$value"
    OPTION[$name]=$value
  done
}

# Given option names, refuse unless each was given.
require_options() {
  local name
  for name in "$@"; do
    [[ -n ${OPTION[$name]+given} ]] || refuse_arguments "$name: is required"
  done
}

# Leave the one positional argument, a vmid, in VMID.
read_one_vmid() {
  ((${#POSITIONAL[@]} == 1)) || refuse_arguments "vmid: exactly one is required"
  check_value vmid "${POSITIONAL[0]}"
  VMID=${POSITIONAL[0]}
}

# Check that either --all or at least one vmid was given.
read_many_vmids() {
  local vmid
  if [[ -n ${OPTION[all]+given} ]]; then
    ((${#POSITIONAL[@]} == 0)) || refuse_arguments "all: no vmid may be given beside it"
    return
  fi
  ((${#POSITIONAL[@]} > 0)) || refuse_arguments "vmid: at least one, or --all, is required"
  for vmid in "${POSITIONAL[@]}"; do
    check_value vmid "$vmid"
  done
}

# Leave the path of the key file to put into the pod in SSH_KEYS, empty when the node has none.
read_ssh_keys() {
  local file=${OPTION[ssh-keys]:-} name
  if [[ -z $file ]]; then
    SSH_KEYS=$KEYS_DIR/platform.pub
    [[ -f $SSH_KEYS && ! -L $SSH_KEYS ]] || SSH_KEYS=
    return
  fi
  name=${file##*/}
  [[ $file == "$name" || $file == "$KEYS_DIR/$name" ]] || refuse_arguments "ssh-keys: ${RULE[ssh-keys]}"
  [[ $name =~ ^[A-Za-z0-9][A-Za-z0-9_.@-]*\.pub$ ]] || refuse_arguments "ssh-keys: ${RULE[ssh-keys]}"
  SSH_KEYS=$KEYS_DIR/$name
  [[ -f $SSH_KEYS && ! -L $SSH_KEYS ]] || refuse_arguments "ssh-keys: ${RULE[ssh-keys]}"
}
