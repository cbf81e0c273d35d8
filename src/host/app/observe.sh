# Hands over what there is of an app. Arguments: its project, its mark, its directory, Caddy's container, the routing table,
# and the ids of images.
project=$1
app=$2
[ ! -d "$3" ] || hand directory /dev/null
proxy=$4
[ ! -f "$5" ] || hand table "$5"
shift 5

all() {
  docker "$@" --no-trunc --filter "label=com.docker.compose.project=$project" >"$scratch/ids"
  docker "$@" --no-trunc --filter "label=roadstead.app=$app" >>"$scratch/ids"
  sort -u "$scratch/ids"
}

format='{"id":{{json .ID}},"image":{{json .Image}},"labels":{{json .Config.Labels}},"state":{{json .State}},'
format=$format'"restarts":{{json .RestartCount}}}'
all ps --all --quiet >"$scratch/containers"
inspect container inspect --format "$format" <"$scratch/containers" >"$scratch/all"
hand containers "$scratch/all"

all network ls --quiet >"$scratch/networks"
echo edge >>"$scratch/networks"
inspect network inspect --format '{"id":{{json .ID}},"name":{{json .Name}},"labels":{{json .Labels}}}' \
  <"$scratch/networks" >"$scratch/all"
hand networks "$scratch/all"
echo "$proxy" | inspect container inspect --format '{{json .NetworkSettings.Networks}}' >"$scratch/all"
hand proxy "$scratch/all"

if [ $# -gt 0 ]; then
  printf '%s\n' "$@" | inspect image inspect --format '{{.ID}}' >"$scratch/all"
  hand images "$scratch/all"
  docker ps --all --quiet --no-trunc >"$scratch/ids"
  inspect container inspect --format '{{.Image}}' <"$scratch/ids" >"$scratch/all"
  hand used "$scratch/all"
fi
full=$(df -Pk /var/lib/docker /opt/roadstead 2>/dev/null | awk 'NR > 1 && $4 < 65536') || true
[ -z "$full" ] || hand full /dev/null
hand end /dev/null
