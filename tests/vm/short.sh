#!/usr/bin/env bash
# What every `make test` runs on container VMs: a droplet is made and goes, an app goes live, is replaced, refuses a broken
# revision, goes back and leaves nothing, and an operator is killed in the middle of deploys. `make test-hosts` runs all.
# Where this machine cannot have container VMs it says why, and that nothing of this was tested. Usage: short.sh
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
untested() {
  printf '\nNOT TESTED on this machine: hosts and apps on container VMs. %s\n\n' "$1"
  exit 0
}
said=$("$here/packages.sh" 2>&1) || untested "$said"
"$here/build-image.sh" || untested "The image of a VM cannot be built; see above."
"$here/with.sh" bash -c '
  cargo test --test vms -- --ignored &&
  cargo test --test hosts -- --ignored --exact \
    apps::an_app_goes_live_is_replaced_refuses_a_broken_one_goes_back_and_leaves_only_its_volumes \
    apps::an_operator_that_is_killed_in_the_middle_of_a_deploy_ends_it_while_the_site_answers'
status=$?
# What with.sh ends with where the rig does not start.
[[ $status -ne 69 ]] || untested "Their engine does not start; see above."
exit "$status"
