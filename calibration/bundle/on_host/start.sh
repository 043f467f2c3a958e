#!/bin/sh
# Check, unpack and run this bundle on the GPU host; `./start.sh --help` lists the options.
# PYTHON names the interpreter that has torch (python3 unless set).
exec "${PYTHON:-python3}" "$(dirname "$0")/start.py" "$@"
