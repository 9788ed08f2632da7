#!/bin/sh
# First process of the machine that enclose.sh makes: its network and its private directories, then the command.
set -eu

# A bridge that pods are plugged into; the node's address is on it. The API server's service address leads here, too.
ip link set lo up
ip address add 10.96.0.1/32 dev lo
ip link add cni0 type bridge
ip address add 10.98.0.1/24 dev cni0
ip link set cni0 up
echo 1 >/proc/sys/net/ipv4/ip_forward

logs=$(dirname "$(dirname "$THINSTREAM_E2E_DIR")")/e2e-logs
for private in /run /var/tmp /var/log /dev/shm; do mount -t tmpfs -o mode=1777 e2e "$private"; done
chmod 755 /run /var/log
# The directory on a disk, under a short name.
mkdir /run/node
mount --bind "$THINSTREAM_E2E_DIR" /run/node
export THINSTREAM_E2E_DIR=/run/node
# The kubelet's and libvirt's directories have fixed names: what is made in /var/lib from here on is made for this machine alone.
mkdir -p /run/lib/upper /run/lib/work /run/node/kubelet
mount -t overlay -o lowerdir=/var/lib,upperdir=/run/lib/upper,workdir=/run/lib/work e2e /var/lib
mkdir -p /var/lib/kubelet /var/lib/libvirt
mount --bind /run/node/kubelet /var/lib/kubelet
mkdir -p /run/netns /run/lock /run/settings
# The kubelet insists on these settings of the whole machine's kernel; it reads and writes copies.
for setting in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
  copy=/run/settings/${setting##*/}
  cat "/proc/sys/$setting" >"$copy"
  mount --bind "$copy" "/proc/sys/$setting"
done

# As the first process it adopts what others leave; `wait` takes their exits.
"$@" &
code=0
wait $! || code=$?
rm -rf "$logs"
if [ $code != 0 ]; then
  mkdir "$logs"
  cp -r /run/node/*.log /var/log/pods "$logs" 2>/dev/null || true # where it came so far
fi
exit $code
