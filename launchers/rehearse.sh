#!/usr/bin/env bash
# The whole LayerDiff chain, small enough for a laptop's CPU: from nothing to layered PSDs.
# Further flags go to the rehearsal.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"

exec python -m seethrough.run experiments/layerdiff3d_v3.py rehearse "$@"
