#!/usr/bin/env bash
# Run an experiment on this machine:
#     launchers/local.sh experiments/layerdiff3d_v3.py [plan|show|diff|rehearse] [--flags]
# Paths are taken from the project's root, wherever the command is given.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"

exec python -m seethrough.run "$@"
