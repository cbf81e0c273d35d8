#!/usr/bin/env bash
# Run one stage and say what it is, what it may take, and what it took. Usage: stage.sh NAME ESTIMATE COMMAND…
set -uo pipefail
name=$1 estimate=$2
shift 2
echo "==> $name ($estimate)"
started=$SECONDS
"$@"
status=$?
took=$((SECONDS - started))
if [[ $status -eq 0 ]]; then verdict=done; else verdict="FAILED with status $status"; fi
printf '<== %s: %s after %d min %02d s\n' "$name" "$verdict" $((took / 60)) $((took % 60))
# Whoever runs many stages may collect them.
[[ -z ${STAGE_LOG:-} ]] || printf '%3d min %02d s  %s: %s\n' $((took / 60)) $((took % 60)) "$name" "$verdict" >> "$STAGE_LOG"
exit "$status"
