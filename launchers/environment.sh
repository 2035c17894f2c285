# shellcheck shell=bash
# Sourced by the other launchers: goes to the project's root and makes its environment the active one.
#
# The environment is `.venv` in the root. It is made when absent, and updated when setup.cfg,
# pyproject.toml or launchers/constraints.txt have changed since. `.venv/made_from` says what it was
# made from: the root alone while the work is going on, the checksums below it once all is done.

set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
cd -- "$root"

stop() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

is_suitable() { # PYTHON
    "$1" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

# Prints the command of a Python for the environment; $PYTHON, when set, is the only choice.
find_python() {
    local python candidates=(python3.11 python3 python3.12 python3.13 python3.14)
    [[ -z ${PYTHON:-} ]] || candidates=("$PYTHON")
    for python in "${candidates[@]}"; do
        if is_suitable "$python"; then
            printf '%s\n' "$python"
            return
        fi
    done
    return 1
}

can_install_debian_packages() {
    [[ $EUID -eq 0 ]] && command -v apt-get >/dev/null
}

install_debian_packages() { # NAME...
    printf 'Installing Debian packages: %s\n' "$*" >&2
    apt-get update -qq >/dev/null </dev/null
    DEBIAN_FRONTEND=noninteractive \
        apt-get install -qq -y --no-install-recommends "$@" >/dev/null </dev/null
}

made_from() {
    printf '%s\n' "$root"
    sha256sum setup.cfg pyproject.toml launchers/constraints.txt
}

is_current() {
    [[ -x .venv/bin/python && -f .venv/made_from && $(<.venv/made_from) == "$(made_from)" ]]
}

make_environment() {
    local python venv=(-m venv) quiet=()
    if ! python=$(find_python); then
        [[ -z ${PYTHON:-} ]] ||
            stop "PYTHON=$PYTHON is not Python 3.11 or newer with its venv package:" \
                "name one that is, or unset PYTHON."
        ! can_install_debian_packages || install_debian_packages python3-venv
        python=$(find_python) ||
            stop "found no Python 3.11 or newer with its venv package" \
                "(python3 is $(python3 --version 2>/dev/null || echo absent)): install one" \
                "(Debian: apt-get install python3-venv) or name it: PYTHON=/path/to/python3.11 $0"
    fi
    # An environment that was moved here, or whose Python is gone, cannot be updated.
    if [[ -f .venv/made_from && $(head -n 1 .venv/made_from) != "$root" ]] ||
        ! is_suitable .venv/bin/python; then
        venv+=(--clear)
    fi
    [[ -t 1 ]] || quiet=(--quiet --quiet)

    printf 'Setting up %s/.venv with %s: about 7 GB, some minutes.\n' "$root" "$python" >&2
    "$python" "${venv[@]}" .venv
    printf '%s\n' "$root" >.venv/made_from
    install "${quiet[@]}" pip setuptools
    install "${quiet[@]}" --editable '.[test]'
    made_from >.venv/made_from
}

install() { # PIP'S ARGUMENTS
    # Packages that come as source are built with the pinned tools too.
    PIP_BUILD_CONSTRAINT=launchers/constraints.txt \
        .venv/bin/python -m pip install --constraint launchers/constraints.txt "$@" ||
        stop "pip could not install the packages, as it says above. Solve that and start again."
}

if ! is_current; then
    # One at a time: a second launcher waits for the first, and then finds the work done.
    (
        flock 9
        is_current || make_environment
    ) 9<launchers/constraints.txt
fi

export VIRTUAL_ENV="$root/.venv"
export PATH="$VIRTUAL_ENV/bin:$PATH"
# Extensions that torch compiles belong to this environment's torch: never to another's.
export TORCH_EXTENSIONS_DIR="$VIRTUAL_ENV/torch_extensions"
