#!/bin/sh
# Makes the qcow2 OVERLAY of SIZE bytes over the raw image DATA (DRIVER `file` or `host_device`), which keeps its content:
# `qemu-img create` would empty it. This is KubeVirt's way too.
set -eu
overlay=$1 data=$2 driver=$3 size=$4
said=$overlay.said
: >"$overlay"
: >"$said"
{
  echo '{"execute":"qmp_capabilities"}'
  echo '{"execute":"blockdev-create","arguments":{"job-id":"new","options":{"driver":"qcow2","file":"overlay","data-file":"data","data-file-raw":true,"size":'"$size"'}}}'
  tries=0
  until grep -q '"status": "concluded"' "$said" || [ "$tries" = 500 ]; do
    sleep 0.02
    tries=$((tries + 1))
  done
  echo '{"execute":"quit"}'
} | qemu-storage-daemon --blockdev "driver=$driver,node-name=held,filename=$data" --blockdev driver=raw,node-name=data,file=held \
  --blockdev "driver=file,node-name=overlay,filename=$overlay" --chardev stdio,id=qmp --monitor qmp >"$said"
grep -q '"status": "concluded"' "$said"
! grep -q '"error"' "$said"
rm "$said"
