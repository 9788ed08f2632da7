#!/bin/sh
# Runs a server (the arguments) until it ends by itself or this script's standard input is closed, which kills it.
set -u
exec 3<&0
"$@" </dev/null 3<&- &
server=$!
(
  cat <&3 >/dev/null
  kill -KILL $server
) &
watcher=$!
exec 3<&-
wait $server
code=$?
kill $watcher 2>/dev/null
exit $code
