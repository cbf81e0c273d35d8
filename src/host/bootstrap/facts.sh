# Prints what bootstrapping needs to know of this host, changing nothing: a line a fact, its fields apart by tabs, and
# `end` as the last. Arguments: `file:PATH`, `directory:PATH` and `image:REFERENCE`, what to look at.
set -u
export LC_ALL=C
PATH=${PATH:-/bin}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
project=roadstead-caddy

# Whatever a value holds, it stays within its field.
say() {
  printf %s "$1"
  shift
  for value; do printf '\t%s' "$(printf %s "$value" | tr -d '\000-\037\177' | head -c 1000)"; done
  printf '\n'
}

(
  ID='' VERSION_ID=''
  . /etc/os-release
  say system "$ID" "$VERSION_ID"
) 2>/dev/null
[ ! -d /run/systemd/system ] || say systemd
say group "$(id -gn "${SUDO_USER:-root}")"
[ ! -e /opt/roadstead/owner ] || say owner "$(head -c 200 /opt/roadstead/owner)"
[ ! -f /opt/roadstead/bootstrapped ] || say finished "$(head -c 200 /opt/roadstead/bootstrapped)"

for argument; do
  path=${argument#*:}
  case $argument in
    file:*) [ ! -f "$path" ] || say file "$path" "$(sha256sum <"$path" | cut -c1-64)" "$(stat -c %a "$path")" ;;
    directory:*) [ ! -d "$path" ] || say directory "$path" "$(stat -c %a "$path")" "$(stat -c %U:%G "$path")" ;;
  esac
done

# Who listens. The kernel's own list, since a fresh host may lack the programs that print it.
for port in 80 443; do
  suffix=$(printf ':%04X$' "$port")
  cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk -v suffix="$suffix" '$4 == "0A" && $2 ~ suffix { print $10 }' |
    while read -r inode; do
      held=$(find /proc/[0-9]*/fd -lname "socket:\[$inode\]" -print -quit 2>/dev/null)
      pid=${held#/proc/}
      pid=${pid%%/*}
      say listener "$port" "$pid" "$(cat "/proc/${pid:-none}/comm" 2>/dev/null)"
    done
done

if command -v docker >/dev/null; then
  ! compose=$(docker compose version --short 2>/dev/null) || say compose "$compose"
  ! command -v dockerd >/dev/null || say engine
  [ "$(systemctl is-enabled docker.service 2>/dev/null)" != enabled ] || say enabled
  if version=$(timeout 20 docker version --format '{{.Server.Version}}' 2>/dev/null); then
    say answers "$version"
    ! edge=$(docker network inspect --format '{{.Id}}' edge 2>/dev/null) || say edge "$edge"
    for argument; do
      case $argument in
        image:*) ! docker image inspect "${argument#*:}" >/dev/null 2>&1 || say image "${argument#*:}" ;;
      esac
    done
    docker ps --format '{{.Ports}}{{"\t"}}{{.Names}}{{"\t"}}{{.Label "com.docker.compose.project"}}' |
      sed 's/^/ports\t/'
    of='{{index .Config.Labels "com.docker.compose.service"}}{{"\t"}}{{.State.Status}}'
    of=$of'{{"\t"}}{{index .Config.Labels "roadstead.dev/definition"}}'
    of=$of'{{"\t"}}{{range .NetworkSettings.Networks}}{{.NetworkID}} {{end}}'
    docker ps --all --quiet --no-trunc --filter "label=com.docker.compose.project=$project" \
      --filter label=com.docker.compose.oneoff=False | while read -r id; do
      fields=$(docker inspect --format "$of" "$id" 2>/dev/null) || continue
      # Why it does not run is in its last words.
      case $fields in
        *"$(printf '\trunning\t')"*) said= ;;
        *) said=$(docker logs --tail 1 "$id" 2>&1 | tr -d '\000-\037\177' | head -c 300) ;;
      esac
      printf 'container\t%s\t%s\n' "$fields" "$said"
    done
  fi
fi
say end
