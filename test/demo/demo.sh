#!/bin/sh
# The demonstration, with the programs of the newest build (or of $TESS_BIN_DIR).
exec /usr/bin/python3 "$(dirname "$0")/demo.py" "$@"
