#!/usr/bin/env bash
# The whole LayerDiff chain, small enough for a laptop's CPU: from nothing to layered PSDs.
# Further flags go to the rehearsal.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"

# Networks this small spend a tenth of their time in giving memory back and getting it again.
export MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=8589934592 MALLOC_TOP_PAD_=268435456

exec python -m seethrough.run experiments/layerdiff3d_v3.py rehearse "$@"
