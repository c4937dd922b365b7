#!/bin/sh
# Install the oldest versions that pyproject.toml allows into a fresh environment and run the fast tests there.
#
#     scripts/lowest_versions.sh                          # all fast tests
#     scripts/lowest_versions.sh tests/io tests/checkpoints
#
# LOWEST names the environment's folder (default: .venv-lowest) and PYTHON the interpreter (default: python3).
set -eu
cd "$(dirname "$0")/.."
environment=${LOWEST:-.venv-lowest}
"${PYTHON:-python3}" -m venv --clear "$environment"
"$environment/bin/pip" install --quiet --disable-pip-version-check uv
VIRTUAL_ENV=$environment "$environment/bin/uv" pip install --quiet --resolution lowest-direct \
    --editable '.[app,metrics,text]' 'pytest>=8' 'hypothesis>=6.100' 'nbformat>=5' 'pytorch-fid>=0.3'
"$environment/bin/uv" pip list --python "$environment/bin/python" --quiet |
    grep -iE '^(torch|torchvision|diffusers|pytorch-lightning|pydantic|pillow|transformers|gradio|numpy) '
exec "$environment/bin/python" -m pytest "$@"
