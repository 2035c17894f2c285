#!/usr/bin/env bash
# Run the tests; arguments go to pytest. With CI set, a skipped test is a failure.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"

need_commands chromium g++
exec python -m pytest "$@"
