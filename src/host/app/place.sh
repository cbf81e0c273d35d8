# Puts a revision's files in their place, from standard input: for each a line `MODE SIZE PATH`, and its bytes. A revision
# that is whole already, which its overlay tells, stays as it is. Then hands over what Compose says of the file, and which
# networks and routes the host has. Arguments: the app's directory, the revision, Compose's words.
directory=$1
revision=$2
compose=$3
home=$directory/revisions/$revision
mkdir -p "$directory/revisions"
if [ -f "$home/overlay.yaml" ]; then
  cat >/dev/null
  rm -f "$home/pruned"
  hand overlay "$home/overlay.yaml"
else
  rm -rf "$directory"/revisions/.new.*
  new=$(mktemp -d "$directory/revisions/.new.XXXXXX")
  mkdir -m 755 "$new/files"
  while read -r mode size path; do
    (
      umask 022
      mkdir -p "$new/$(dirname "$path")"
    )
    head -c "$size" >"$new/$path"
    chmod "$mode" "$new/$path"
  done
  find "$new" -type f -exec sync {} +
  rm -rf "$home"
  mv -T "$new" "$home"
fi

format='{"name":{{json .Name}},"labels":{{json .Labels}},"subnets":[{{range $i, $c := .IPAM.Config}}'
format=$format'{{if $i}},{{end}}{{json $c.Subnet}}{{end}}]}'
docker network ls --quiet --no-trunc >"$scratch/ids"
inspect network inspect --format "$format" <"$scratch/ids" >"$scratch/networks"
hand networks "$scratch/networks"
cat /proc/net/route >"$scratch/routes"
hand routes "$scratch/routes"

config config "--format json"
hand end /dev/null
