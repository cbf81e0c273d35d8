#!/usr/bin/env bash
# Run a program that must not outlive the process holding our stdin, and pass on the signals that process asks for.
# Usage: supervise.sh LOG PROGRAM [ARGUMENT…]. Each line on stdin names a signal to send (`KILL`, `TERM`, …); the end of
# stdin kills the program. Prints the program's process id; exits with its status once it has ended.
set -uo pipefail
log=$1
shift
exec 3<&0
"$@" >>"$log" 2>&1 </dev/null 3<&- &
child=$!
echo "$child"
{ while read -r signal; do kill "-$signal" "$child"; done; kill -KILL "$child"; } <&3 >/dev/null 2>&1 &
watcher=$!
# The shell would report the death of what it was told to kill.
exec 2>/dev/null
# A signal meant for the whole terminal (Ctrl-C) must not end the watcher's parent before the program.
trap : INT TERM HUP
while :; do
  wait "$child"
  status=$?
  kill -0 "$child" 2>/dev/null || break
done
kill "$watcher" 2>/dev/null
exit "$status"
