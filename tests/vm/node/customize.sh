#!/bin/sh
# Turn an installed Debian into the root of a VM. Usage: customize.sh ROOT COMPOSE   (mmdebstrap runs it)
set -eu
root=$1 compose=$2
here=$(cd "$(dirname "$0")" && pwd)

install -D -m 755 "$compose" "$root/usr/libexec/docker/cli-plugins/docker-compose"
install -m 755 "$here/entrypoint.sh" "$root/usr/local/sbin/vm-entrypoint"
install -D -m 644 "$here/cloud.cfg" "$root/etc/cloud/cloud.cfg.d/99-vm.cfg"
install -D -m 644 "$here/sshd.conf" "$root/etc/ssh/sshd_config.d/10-vm.conf"

# Each VM makes its own identity, and none knows the mirror it came from.
rm -f "$root"/etc/ssh/ssh_host_* "$root/etc/apt/sources.list" "$root"/etc/apt/sources.list.d/*
rm -f "$root/var/lib/dbus/machine-id"
: >"$root/etc/machine-id"

# What has no place in a container: hardware, clock, consoles, the machine's own file systems.
for unit in systemd-udevd.service systemd-udev-trigger.service systemd-modules-load.service systemd-remount-fs.service \
  systemd-timesyncd.service getty@tty1.service console-getty.service apt-daily.timer apt-daily-upgrade.timer \
  sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount dev-hugepages.mount dev-mqueue.mount; do
  ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
ln -sf /lib/systemd/system/multi-user.target "$root/etc/systemd/system/default.target"
