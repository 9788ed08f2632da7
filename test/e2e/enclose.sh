#!/bin/sh
# Runs a command (the arguments) on a machine of its own: network, mounts and processes are a new namespace's, and what it starts goes into
# cgroups of its own. All of it is taken away when the command ends, and when this script is ended. The environment of the command has
#   THINSTREAM_E2E_DIR     a directory on a disk, for what is too large for memory
#   THINSTREAM_E2E_CGROUP  the path of its cgroups
# Nothing of the machine is changed but those: /run, /dev/shm and most of /var are private, and so are the settings that a kubelet makes.
# Where the command fails, its logs are kept in .cache/e2e-logs.
set -eu
here=$(dirname "$(readlink -f "$0")")
base=$(readlink -f "$here/../..")/.cache/e2e
name=thinstream-e2e

case $base in
  /run/* | /dev/shm/* | /var/lib/* | /var/log/* | /var/tmp/*)
    echo "e2e: the checkout lies in a directory that this machine of its own has a private one in place of ($base): clone it elsewhere" >&2
    exit 1
    ;;
esac

hierarchies() { awk '$3 == "cgroup" || $3 == "cgroup2" { print $2 }' /proc/mounts; }

# What is in a cgroup has been killed by then; the kernel may need a moment to notice.
remove_cgroups() {
  for root in $(hierarchies); do
    [ -d "$root/$1" ] || continue
    for _ in 1 2 3 4 5 6 7 8 9 10; do
      find "$root/$1" -depth -type d -exec rmdir {} + 2>/dev/null || true
      [ -d "$root/$1" ] || break
      sleep 0.5
    done
  done
}

# Nothing can be mounted in it any more: the mounts went with their namespace.
remove() {
  remove_cgroups "$name-$1"
  rm -rf "$base/$1"
}

# Left by one that was killed before it could.
mkdir -p "$base"
for left in "$base"/*; do
  [ -d "$left" ] && [ ! -d "/proc/${left##*/}" ] && remove "${left##*/}"
done

export THINSTREAM_E2E_DIR="$base/$$" THINSTREAM_E2E_CGROUP="/$name-$$"
mkdir "$THINSTREAM_E2E_DIR"
for root in $(hierarchies); do
  mkdir "$root$THINSTREAM_E2E_CGROUP"
  # All pods together count as much as eight processes outside: on a busy machine they would starve as one.
  for share in cpu.shares=8192 cpu.weight=800; do
    file="$root$THINSTREAM_E2E_CGROUP/${share%=*}"
    [ ! -e "$file" ] || echo "${share#*=}" >"$file"
  done
done

# The shell waits beside it, so that a signal finds it; should the shell itself be killed, the kernel kills the rest.
setpriv --pdeathsig KILL -- unshare --net --mount --pid --fork --kill-child --mount-proc --propagation private sh "$here/inside.sh" "$@" &
inside=$!
trap 'kill -KILL $inside 2>/dev/null || true; wait $inside 2>/dev/null || true; remove $$; exit 143' TERM INT HUP
code=0
wait $inside || code=$?
trap '' TERM INT HUP
remove $$
exit $code
