#!/usr/bin/env bash
# Run the tests; arguments go to pytest. With CI set, a skipped test is a failure.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"

# All extras: what they add is tested too. This one has another licence, so only tests bring it in.
python -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("live2d") is None)' ||
    install --quiet --editable '.[live2d]'

# A browser for the page, what compiling a model needs, and what live2d-py's library is linked to.
missing=()
command -v chromium >/dev/null || missing+=(chromium)
command -v g++ >/dev/null || missing+=(g++)
headers=$(python -c 'import sysconfig; print(sysconfig.get_path("include"))')
[[ -f $headers/Python.h ]] || missing+=(python3-dev)
for library in libX11:libx11-6 libXext:libxext6; do
    /sbin/ldconfig -p | grep "${library%:*}\.so\.6" >/dev/null || missing+=("${library#*:}")
done

if [[ ${#missing[@]} -gt 0 ]]; then
    can_install_debian_packages && install_debian_packages "${missing[@]}" ||
        printf 'note: not installed: %s. Tests that need them are skipped.\n' "${missing[*]}" >&2
fi
exec python -m pytest "$@"
