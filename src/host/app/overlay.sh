# Writes standard input as the overlay of a revision that lacks one, for Compose to hash what comes of it with the files
# at the place that all revisions share. Arguments: the app's directory, the revision, Compose's words.
directory=$1
revision=$2
compose=$3
cat >"$directory/revisions/$revision/overlay.new"
ln -sfnT "revisions/$revision/files" "$directory/files"
config hashes "--hash '*'"
hand end /dev/null
