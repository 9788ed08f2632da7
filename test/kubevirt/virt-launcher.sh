#!/bin/sh
# The virt-launcher container's command: a libvirt of the pod's own user, whose socket is called as virtqemud's, in KubeVirt's directories.
# SIGTERM ends its machines as a power button that nobody obeys: QEMU closes the disks cleanly, then all is gone.
set -eu
export XDG_RUNTIME_DIR=/var/run XDG_CONFIG_HOME=/var/run/kubevirt-private XDG_CACHE_HOME=/var/run/kubevirt-private
uri='qemu+unix:///session?socket=/var/run/libvirt/virtqemud-sock'
mkdir -p /var/run/kubevirt-private/libvirt/qemu "/var/run/kubevirt-private/$VMI_UID"
cat >/var/run/kubevirt-private/libvirt/qemu.conf <<END
stdio_handler = "file"
security_driver = "none"
namespaces = []
cgroup_controllers = []
remember_owner = 0
END
cat >/var/run/libvirt/virtqemud.conf <<END
max_clients = 200
max_workers = 20
END

end() {
  for domain in $(virsh -q -c "$uri" list --name); do virsh -q -c "$uri" destroy --graceful "$domain" || true; done
  kill "$libvirtd" 2>/dev/null || true
  exit 0
}

libvirtd -f /var/run/libvirt/virtqemud.conf &
libvirtd=$!
trap end TERM
until [ -S /var/run/libvirt/libvirt-sock ]; do
  kill -0 "$libvirtd"
  sleep 0.05
done
# Debian has the one daemon for all of libvirt's drivers; its socket answers under any name.
mv /var/run/libvirt/libvirt-sock /var/run/libvirt/virtqemud-sock
wait "$libvirtd"
