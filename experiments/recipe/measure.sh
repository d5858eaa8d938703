#!/usr/bin/env bash
# Measures the checkpoints on held-out windows and writes the JSON files beside this script.
#
#   DATA=FOLDER experiments/recipe/measure.sh CHECKPOINT...
#
# One file a checkpoint and kind of measurement; those that are there are left out. CHECKPOINT is a
# folder or an embedded name; the decoder of BASE is the base decoder (BASE= leaves it out).
set -euo pipefail
cd "$(dirname "$0")/../.."
here=experiments/recipe
data=${DATA:-../shared/data}
base=${BASE-experiments/recipe/base16}
python=${PYTHON:-.venv/bin/python}
count=${COUNT:-200}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} PYTHONPATH="$PWD"

measure() { # file, script, arguments
  local file=$here/$1.json script=$here/$2.py
  shift 2
  test -s "$file" || {
    "$python" "$script" --data "$data" --count "$count" --output "$file.part" "$@"
    mv "$file.part" "$file"
  }
}

with_base=()
test -z "$base" || with_base=(--base "$base")
for checkpoint in "$@"; do
  name=$(basename "${checkpoint%/model}")
  measure "context-$name" context "${with_base[@]}" --kinds contiguous -- "$checkpoint"
  measure "context-$name-other" context --fractions --kinds "contiguous, q = 64" recall -- "$checkpoint"
  measure "context-$name-retrieved" context "${with_base[@]}" --domains docs --kinds retrieved -- "$checkpoint"
  measure "reconstruction-$name" reconstruction "$checkpoint"
done
