# Writes standard input as the overlay of a revision that lacks one, for Compose to hash what comes of it with the files
# at the place that all revisions share. Arguments: the app's directory, the revision, Compose's words.
directory=$1
revision=$2
compose=$3
cat >"$directory/revisions/$revision/overlay.new"
ln -sfnT "revisions/$revision/files" "$directory/files"
if eval "$compose config --hash '*'" >"$scratch/hashes" 2>"$scratch/complaint"; then
  hand hashes "$scratch/hashes"
elif ! docker compose version >/dev/null; then
  exit 1
fi
hand complaint "$scratch/complaint"
hand end /dev/null
