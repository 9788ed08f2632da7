#!/bin/sh
# First process of a simulated node: its mount and pid namespaces hold everything that runs and is mounted there, and all of it
# ends when this script's standard input is closed or the script is killed.
set -eu
echo ready
# As the first process it adopts what its pods leave; `wait` takes their exits.
exec 3<&0
cat <&3 >/dev/null &
wait $!
