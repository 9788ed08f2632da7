#!/bin/sh
# Builds the image of a pod's first process, which only waits and keeps the pod's namespaces: one static program.
#
#   sh test/image/pause.sh [work directory]     as root; needs buildah and busybox-static; leaves <work directory>/pause.oci.tar
set -eu
work=${1:-$(cd "$(dirname "$0")/../.." && pwd)/.cache/image}
mkdir -p "$work"
buildah() { command buildah --root "$work/storage" --runroot "$work/run" "$@"; }
container=$(buildah from scratch)
buildah copy -q "$container" /bin/busybox /busybox >/dev/null
buildah config --entrypoint '["/busybox", "tail", "-f", "/dev/null"]' "$container"
buildah commit -q --rm "$container" localhost/pause >/dev/null
rm -f "$work/pause.oci.tar"
buildah push -q localhost/pause "oci-archive:$work/pause.oci.tar:localhost/pause:test" >/dev/null
echo "image: $work/pause.oci.tar"
