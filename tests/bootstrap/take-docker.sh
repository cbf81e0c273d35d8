# On a VM: makes packages of its Docker Engine and Compose, under the names that Docker's own repository has for them,
# removes both from the system, and serves the packages over HTTPS at localhost:8443, laid out as that repository is.
# What is still missing there is signed elsewhere: `InRelease` beside `Release`, whose text is printed, and the key.
set -eu
work=/var/tmp/docker
release=$(. /etc/os-release && echo "$VERSION_CODENAME")
suite=debian/dists/$release
index=stable/binary-amd64
mkdir -p "$work/debian/pool" "$work/$suite/$index"
cd "$work"

# pack NAME < FILES: what is to be in the package, by absolute paths.
pack() {
  mkdir -p "$1/DEBIAN"
  tar -C / -c --files-from - | tar -C "$1" -x
  printf 'Package: %s\nVersion: 1\nArchitecture: amd64\nMaintainer: rig\nDescription: rig\n' "$1" >"$1/DEBIAN/control"
  if [ "$1" = docker-ce ]; then
    printf '#!/bin/sh\ngroupadd -f -r docker && systemctl daemon-reload\n' >"$1/DEBIAN/postinst"
    chmod 755 "$1/DEBIAN/postinst"
  fi
  dpkg-deb -Znone --build "$1" "debian/pool/$1.deb" >&2
  rm -r "$1"
}
files() { [ $# -eq 0 ] || dpkg -L "$@" | while read -r path; do [ ! -f "$path" ] || echo "${path#/}"; done | sort -u; }
files docker.io runc | pack docker-ce
# In Debian 12 the client belongs to the engine's package.
cli=$(dpkg-query --show --showformat '${Package}' docker-cli 2>/dev/null || true)
files $cli </dev/null | pack docker-ce-cli
files containerd | pack containerd.io
echo usr/libexec/docker/cli-plugins/docker-compose | pack docker-compose-plugin

systemctl disable --quiet --now docker.socket docker.service containerd.service >&2
dpkg --remove docker.io containerd runc $cli >&2
rm /usr/libexec/docker/cli-plugins/docker-compose
systemctl daemon-reload

for package in debian/pool/*.deb; do
  dpkg-deb --field "$package"
  printf 'Filename: %s\nSize: %s\nSHA256: %s\n\n' "${package#debian/}" "$(stat -c %s "$package")" \
    "$(sha256sum "$package" | cut -d' ' -f1)"
done >"$suite/$index/Packages"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
  -addext subjectAltName=DNS:localhost -keyout server.key -out server.pem 2>/dev/null
cat server.pem >>/etc/ssl/certs/ca-certificates.crt
cat >serve.py <<'P'
import http.server, ssl
# Not the older version, which tells the end of an answer by an end of TLS that apt of Debian 13 takes for a cut.
http.server.SimpleHTTPRequestHandler.protocol_version = "HTTP/1.1"
server = http.server.ThreadingHTTPServer(("127.0.0.1", 8443), http.server.SimpleHTTPRequestHandler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("server.pem", "server.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
P
setsid -f python3 serve.py </dev/null >serve.log 2>&1

cd "$suite"
printf 'Suite: %s\nCodename: %s\nArchitectures: amd64\nComponents: stable\nDate: %s\nSHA256:\n %s %s %s\n' \
  "$release" "$release" "$(date -Ru)" "$(sha256sum "$index/Packages" | cut -d' ' -f1)" "$(stat -c %s "$index/Packages")" "$index/Packages"
