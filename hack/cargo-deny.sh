#!/usr/bin/env bash
# Check licences, banned crates and sources with the pinned cargo-deny, built into target/tools if it is not there.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
version=0.20.2
tool=$root/target/tools/bin/cargo-deny
if [[ $("$tool" --version 2>/dev/null) != "cargo-deny $version" ]]; then
  echo "building cargo-deny $version: about 6 minutes on 2 cores, once" >&2
  # Its build products are thrown away: they would only double the size of target/.
  cargo install --quiet --locked cargo-deny --version "$version" --root "$root/target/tools" --target-dir "$root/target/cargo-deny"
  rm -rf "$root/target/cargo-deny"
fi
"$tool" --manifest-path "$root/Cargo.toml" --workspace --all-features --log-level error check bans licenses sources
