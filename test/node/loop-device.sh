#!/bin/sh
# Makes a block device of the file FILE, names it, and holds it until its standard input is closed. The device is detached at once
# and lives on only because it is open here: whatever ends this script frees it.
set -eu
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
device=$(losetup --show -f "$1")
exec 9<>"$device"
losetup -d "$device"
echo "$device"
exec cat >/dev/null
