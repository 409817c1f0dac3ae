# Source this: makes the virtual environment .venv in the checkout, if there is none, installs the
# package in it with the extras in $1 (such as "examples"), and activates it.
# PYTHON names the interpreter (default: python3), ENVIRONMENT another folder than .venv.

checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
environment=${ENVIRONMENT:-$checkout/.venv}
# shellcheck disable=SC1091
source "$checkout/examples/duration.sh"

step() { # TITLE COMMAND...: the title at the start of COMMAND and its time at the end; a log of the rest
    local begin=$SECONDS log=$environment/install.log
    printf '  %s ...' "$1"
    if ! "${@:2}" >>"$log" 2>&1; then
        printf ' failed\n'
        tail -n 20 "$log" >&2
        echo "The whole log is $log" >&2
        return 1
    fi
    echo " $(duration $((SECONDS - begin)))"
}

prepare_environment() {
    local extras=$1 versions=$checkout/constraints.txt stamp pip_version=pip
    # fairseq-fixed compiles against torch: with torch in place and no isolated build, only once.
    local fairseq=(--no-build-isolation fairseq-fixed)
    stamp=$environment/installed-$extras-$(cat "$checkout/setup.py" "$versions" | cksum | cut -d' ' -f1)
    if [ ! -e "$stamp" ]; then
        echo "Installing into $environment, once:"
        mkdir -p "$environment"
        if [ ! -e "$environment/bin/python" ]; then
            step "the virtual environment" "${PYTHON:-python3}" -m venv "$environment"
        fi
        local python=$environment/bin/python
        if "$python" -c 'import sys; sys.exit(sys.version_info >= (3, 11))'; then
            # fairseq 0.12.2 lacks sources that it would compile if it saw torch.
            fairseq=(fairseq)
            pip_version='pip<24.1' # later ones refuse omegaconf 2.0, which fairseq 0.12.2 needs
        fi
        local install=("$python" -m pip install -q --disable-pip-version-check -c "$versions")
        step "a current pip" "${install[@]}" "$pip_version"
        step "torch" "${install[@]}" setuptools wheel cython numpy torch
        step "fairseq, parts of which are compiled" "${install[@]}" "${fairseq[@]}"
        step "this plugin, with what its $extras need" \
            "${install[@]}" --no-build-isolation -e "$checkout[$extras]"
        touch "$stamp"
    fi
}

prepare_environment "$1"
# shellcheck disable=SC1091
source "$environment/bin/activate"
