#!/bin/sh
# Runs the calendar and contacts server in a virtual machine or as a process. `run-caldav.sh --help` says how.
set -eu
SERVICE=caldav
DEPLOY=$(cd "$(dirname "$0")" && pwd)
. "$DEPLOY/lib/run.sh"
