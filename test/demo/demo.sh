#!/bin/sh
# The demonstration, both parts, with the programs of the newest build (or of $TESS_BIN_DIR).
here=$(dirname "$0")
/usr/bin/python3 "$here/demo.py" "$@" && exec /usr/bin/python3 "$here/crowd.py"
