#!/bin/sh
# `thinstream` of a simulated container of the project's image.
exec sh /opt/thinstream/src/cli/thinstream.sh "$@"
