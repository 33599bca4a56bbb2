#!/usr/bin/env bash
# Make the project's own Python environment from the pinned requirements: those of a run, and those of developers.
set -euo pipefail
venv=${1:-.venv}

python=
for candidate in "${PYTHON:-}" python3.12 python3.11 python3; do
    [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 || continue
    version=$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
    case $version in 3.11|3.12) python=$candidate; break ;; *) seen="${seen:-}$candidate is $version; " ;; esac
done
if [ -z "$python" ]; then
    echo "mettrail needs Python 3.11 or 3.12, which were not found (${seen:-no python3 at all}). Install one" >&2
    echo "(Debian 12: apt install python3 python3-venv; Ubuntu 24.04: the same) or name it: PYTHON=/path/to/python3.11 make demo" >&2
    exit 1
fi
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    echo "$python has no venv module: apt install python3-venv" >&2
    exit 1
fi

echo "Making $venv with $("$python" --version) …"
"$python" -m venv --clear "$venv"
# Modules are compiled when they are first imported: of all that is installed, few ever are.
pip="$venv/bin/python -m pip --disable-pip-version-check -q"
# torch first and with what its own build needs (the CUDA build brings its libraries, the CPU build none); then all the
# rest exactly as pinned, without resolving, so that nothing replaces torch or brings a torchvision that does not fit it.
$pip install --no-compile -c requirements.txt torch==2.13.0
$pip install --no-compile --no-deps -r requirements.txt -r requirements-dev.txt
$pip install --no-compile --no-deps --no-build-isolation -e . 2>/dev/null || $pip install --no-compile --no-deps -e .
"$venv/bin/python" -c 'import mettrail, snakemake, torch; print("ready: torch", torch.__version__, "· CUDA" if torch.cuda.is_available() else "· CPU")'
