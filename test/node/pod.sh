#!/bin/sh
# First process of a container, in namespaces of its own: builds the root, then becomes the container's command. Arguments:
#   PLAN     file of lines, fields parted by tabs:
#              lower<TAB>DIR              an image's layer, topmost first
#              mount<TAB>SOURCE<TAB>TARGET<TAB>ro|rw    a directory, file or device of the node
#              block<TAB>SOURCE<TAB>TARGET<TAB>UID      a block device, as a node of its own
#              device<TAB>NAME            a device of the node's /dev
#              root<TAB>ro|rw
#   SCRATCH  an empty directory for the root's mount
#   LOG      file that the command's output is appended to
#   the rest the command
# Standard output gets one line when the command is about to run.
# The environment is the container's.
set -eu
plan=$1 scratch=$2
exec 8>&1 >>"$3" 2>&1
shift 3
container_path=$PATH
PATH=/usr/sbin:/usr/bin:/sbin:/bin
echo "$HOSTNAME" >/proc/sys/kernel/hostname
tab=$(printf '\t')

mount -t tmpfs -o mode=755 pod "$scratch"
mkdir "$scratch/upper" "$scratch/work" "$scratch/root" "$scratch/stage"
lower=
while IFS=$tab read -r what source target mode; do
  case $what in lower) lower=$lower${lower:+:}$source ;; esac
done <"$plan"
mount -t overlay -o "lowerdir=$lower,upperdir=$scratch/upper,workdir=$scratch/work" pod "$scratch/root"

# Sources are held before the root changes: symbolic links among them mean the node's files.
number=0
while IFS=$tab read -r what source target mode; do
  if [ "$what" != mount ]; then continue; fi
  number=$((number + 1))
  stage=$scratch/stage/$number
  source=$(readlink -e "$source") || { echo "pod: no source for $target" >&2; exit 128; }
  if [ -d "$source" ]; then mkdir "$stage"; else : >"$stage"; fi
  mount --rbind "$source" "$stage"
done <"$plan"

# A container runtime makes nodes of its own for devices, with the owner that the container runs as.
devices=
while IFS=$tab read -r what source target mode; do
  if [ "$what" != block ]; then continue; fi
  number=$(stat -Lc '0x%t 0x%T' "$source")
  devices="$devices$target $mode $(printf '%d %d' $number)
"
done <"$plan"

cd "$scratch/root"
mkdir -p .node proc sys dev run tmp
mount -t proc proc proc
mount --rbind /sys sys
mount -t tmpfs -o mode=755 run run
mount -t tmpfs -o mode=1777 tmp tmp
mount -t tmpfs -o mode=755 dev dev
ln -s /proc/self/fd dev/fd
ln -s /proc/self/fd/0 dev/stdin
ln -s /proc/self/fd/1 dev/stdout
ln -s /proc/self/fd/2 dev/stderr
mkdir dev/shm dev/pts
mount -t tmpfs -o mode=1777 shm dev/shm
mount -t devpts -o newinstance,ptmxmode=666 pts dev/pts
ln -s pts/ptmx dev/ptmx
for device in null zero full random urandom tty; do
  : >"dev/$device"
  mount --bind "/dev/$device" "dev/$device"
done
while IFS=$tab read -r what source target mode; do
  case $what in
    device)
      : >"dev/$source"
      mount --bind "/dev/$source" "dev/$source"
      ;;
  esac
done <"$plan"

pivot_root . .node
cd /
# Where a mount goes: volumes that a user's process writes to get the way to a mount within them as open as they are.
place() {
  umask 0
  if [ -d "$1" ]; then mkdir -p "$2"; else mkdir -p "$(dirname "$2")"; [ -e "$2" ] || : >"$2"; fi
  umask 022
}
root=rw number=0
while IFS=$tab read -r what source target mode; do
  case $what in
    root) root=$source ;;
    mount)
      number=$((number + 1))
      place "/.node$scratch/stage/$number" "$target"
      ;;
  esac
done <"/.node$plan"
# A runtime makes the nodes of devices while the root can still be written to.
printf '%s' "$devices" | while read -r target owner major minor; do
  mkdir -p "$(dirname "$target")"
  mknod -m 0660 "$target" b "$major" "$minor"
  chown "$owner:$owner" "$target"
done
# Before the volumes are there, one of which may lie on /tmp.
if [ "$root" = ro ]; then for path in / /run /tmp; do mount -o remount,bind,ro "$path"; done; fi
number=0
while IFS=$tab read -r what source target mode; do
  if [ "$what" != mount ]; then continue; fi
  number=$((number + 1))
  stage=/.node$scratch/stage/$number
  place "$stage" "$target"
  mount --rbind "$stage" "$target"
  if [ "$mode" = ro ]; then mount -o remount,bind,ro "$target"; fi
done <"/.node$plan"
umount -l /.node
rmdir /.node 2>/dev/null || true
PATH=$container_path
unset OLDPWD
echo started >&8
exec 8>&-
exec "$@"
