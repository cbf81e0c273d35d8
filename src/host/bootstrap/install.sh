# Installs packages from Docker's own repository; Debian and Ubuntu lack Compose, or have it under other names.
# Arguments: the repository's URL, the SHA-256 of its key, and the packages. May be ended at any point and run again.
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
repository=$1 sum=$2
shift 2
. /etc/os-release
key=/etc/apt/keyrings/roadstead-docker.asc

# The first boot installs packages too.
! command -v cloud-init >/dev/null || timeout 300 cloud-init status --wait >/dev/null 2>&1 || true
packages() { apt-get -q -y -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confold "$@"; }
# Lists are locked apart from packages, and for them apt does not wait.
lists() {
  for _ in 1 2 3 4 5 6 7 8 9 10; do
    ! packages update || return 0
    sleep 6
  done
  return 1
}
# What an installation that was cut has left.
dpkg --configure -a
packages --fix-broken install
lists
packages --no-install-recommends install ca-certificates curl

install -d -m 755 /etc/apt/keyrings
new=$(mktemp /etc/apt/keyrings/.roadstead.XXXXXX)
trap 'rm -f "$new"' EXIT
curl -fsSL --retry 3 --max-time 60 -o "$new" "$repository/$ID/gpg"
echo "$sum  $new" | sha256sum --check --status || {
  echo "the key at $repository/$ID/gpg is not the pinned one" >&2
  exit 1
}
chmod 644 "$new"
mv -f "$new" "$key"
trap - EXIT
echo "deb [arch=$(dpkg --print-architecture) signed-by=$key] $repository/$ID $VERSION_CODENAME stable" \
  >/etc/apt/sources.list.d/roadstead-docker.list
lists
packages --no-install-recommends install "$@"
