#!/bin/sh
# First process of a private libvirt: own mount and pid namespaces, own configuration and state.
# It ends, and everything in it with it, when its standard input is closed. Arguments:
#   DIR    the lab's directory, with etc/ run/ lib/ log/ cache/ below DIR/fs
#   ROOT   empty: this machine's libvirt; else a directory with another Debian, entered by chroot
#   SHARED paths, separated by ":", that must look the same inside ROOT
# Commands on standard input, one a line: "restart" (SIGKILL to libvirtd, the domains go on; then a new one).
set -eu
dir=$1 root=$2 shared=$3
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C

if [ -n "$root" ]; then
  mkdir -p "$dir/overlay"
  mount -t tmpfs -o mode=755 lab "$dir/overlay"
  mkdir "$dir/overlay/upper" "$dir/overlay/work" "$dir/overlay/root"
  mount -t overlay -o "lowerdir=$root,upperdir=$dir/overlay/upper,workdir=$dir/overlay/work" lab "$dir/overlay/root"
  new=$dir/overlay/root
  for path in /proc /sys /dev; do mount --rbind "$path" "$new$path"; done
  IFS=:
  for path in $shared; do
    mkdir -p "$new$path"
    mount --rbind "$path" "$new$path"
  done
  unset IFS
else
  new=
fi

# Own state, over the state the machine may have.
for pair in etc:/etc/libvirt lib:/var/lib/libvirt log:/var/log/libvirt cache:/var/cache/libvirt run:/run/libvirt; do
  mkdir -p "$dir/fs/${pair%%:*}" "$new${pair#*:}"
  mount --bind "$dir/fs/${pair%%:*}" "$new${pair#*:}"
done
# libvirtd looks these up before it reads that it shall not use them; Debian makes them with the machine's own service.
for file in passwd group; do
  if ! grep -q ^libvirt-qemu: "$new/etc/$file"; then
    cp "$new/etc/$file" "$dir/fs/$file"
    case $file in
      passwd) echo libvirt-qemu:x:64055:64055::/nonexistent:/usr/sbin/nologin ;;
      group) echo libvirt-qemu:x:64055: ;;
    esac >>"$dir/fs/$file"
    mount --bind "$dir/fs/$file" "$new/etc/$file"
  fi
done
# No D-Bus, no cgroups: this libvirt must not register its machines with the host's systemd.
for path in /run/dbus /run/systemd; do
  if [ -d "$new$path" ]; then mount -t tmpfs lab "$new$path"; fi
done
umount -l "$new/sys/fs/cgroup" 2>/dev/null || true
umount -l /sys/fs/cgroup 2>/dev/null || true

start() {
  if chroot "$new/" libvirtd -d --pid-file "$dir/libvirtd.pid" --config "$dir/fs/etc/libvirtd.conf"; then
    echo ready
  else
    echo failed
  fi
}

commands() {
  start
  while read -r command; do
    case $command in
      restart)
        kill -KILL "$(cat "$dir/libvirtd.pid")"
        while [ -d "/proc/$(cat "$dir/libvirtd.pid")" ]; do sleep 0.05; done
        rm -f "$dir/libvirtd.pid" "$dir"/s/libvirt*
        start
        ;;
    esac
  done
}

# As the first process this shell adopts libvirtd and QEMU: `wait` takes their exits too. A background job's
# input would be /dev/null, so standard input travels as descriptor 3.
exec 3<&0
commands <&3 &
wait $!
