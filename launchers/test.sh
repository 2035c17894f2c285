#!/usr/bin/env bash
# Run the tests; arguments go to pytest. With CI set, a skipped test is a failure.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"

# A browser for the page, and what compiling a model needs.
missing=()
command -v chromium >/dev/null || missing+=(chromium)
command -v g++ >/dev/null || missing+=(g++)
headers=$(python -c 'import sysconfig; print(sysconfig.get_path("include"))')
[[ -f $headers/Python.h ]] || missing+=(python3-dev)

if [[ ${#missing[@]} -gt 0 ]]; then
    can_install_debian_packages && install_debian_packages "${missing[@]}" ||
        printf 'note: not installed: %s. Tests that need them are skipped.\n' "${missing[*]}" >&2
fi
exec python -m pytest "$@"
