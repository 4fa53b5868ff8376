#!/bin/sh
# Runs the template service, an HTTP hello, in a virtual machine or as a process. `run-template.sh --help` says how.
set -eu
SERVICE=template
DEPLOY=$(cd "$(dirname "$0")" && pwd)
. "$DEPLOY/lib/run.sh"
