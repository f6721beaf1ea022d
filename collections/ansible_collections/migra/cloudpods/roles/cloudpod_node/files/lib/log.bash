# migra.cloudpods: one JSON line per run, appended in a single write.
# shellcheck shell=bash disable=SC2034
# (What is set here is read in other files.)

# Given a text, leave it in JSON_STRING as a JSON string. Bytes that are not printable ASCII become "?":
# in the C locale bash cannot tell good UTF-8 from bad, and one bad byte would spoil the line.
json_string() {
  local text=${1:0:1000}
  text=${text//[$'\t\r\n']/ }
  text=${text//[^ -~]/?}
  text=${text//\\/\\\\}
  text=${text//\"/\\\"}
  JSON_STRING="\"$text\""
}

# As json_string, but an empty text or "-" is null.
json_string_or_null() {
  if [[ -z $1 || $1 == - ]]; then JSON_STRING=null; else json_string "$1"; fi
}

# Leave the present moment in NOW (ISO 8601, UTC, milliseconds) and NOW_MS (milliseconds since 1970).
read_clock() {
  local -r now=$EPOCHREALTIME   # read once: two reads may straddle a second
  local -r seconds=${now%.*} fraction=${now#*.}
  TZ=UTC0 printf -v NOW '%(%Y-%m-%dT%H:%M:%S)T' "$seconds"
  NOW+=".${fraction:0:3}Z"
  NOW_MS=$((seconds * 1000 + 10#${fraction:0:3}))
}

# Given outcome, exit code and message, append this run's line. A log that cannot be written is said, never fatal:
# by now the node has changed, and the caller must hear of that.
log_outcome() {
  local line message ip run tenant
  json_string "$3" && message=$JSON_STRING
  json_string_or_null "${IP:-}" && ip=$JSON_STRING
  json_string_or_null "${OPTION[run]:-}" && run=$JSON_STRING
  json_string_or_null "${OPTION[tenant]:-${TENANT:-}}" && tenant=$JSON_STRING
  read_clock
  printf -v line '{"ts": "%s", "script": "%s", "vmid": %s, "run": %s, "tenant": %s, "outcome": "%s", "rc": %d, "message": %s, "ip": %s, "duration_ms": %d, "pid": %d}\n' \
    "$NOW" "$SCRIPT" "$VMID" "$run" "$tenant" "$1" "$2" "$message" "$ip" $((NOW_MS - STARTED_MS)) $$
  { printf '%s' "$line" >>"$LOG_FILE"; } 2>/dev/null ||
    printf 'warning: %s could not be written\n' "$LOG_FILE" >&2 || true
}
