#!/usr/bin/env bash
# Run a command with a rig, whose directory it finds in ROADSTEAD_VM_RIG, and end the rig however the command ends.
# Ends as the command does, or with 69 where the rig does not start.
# Usage: with.sh COMMAND…
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
trap '"$here/stop.sh"' EXIT
trap 'exit 130' INT TERM HUP
ROADSTEAD_VM_RIG=$("$here/start.sh") || exit 69
export ROADSTEAD_VM_RIG
"$@"
