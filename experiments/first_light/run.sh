#!/usr/bin/env bash
# Remakes every number and figure of experiments/first_light, in about 45 minutes on 2 cores.
# DATA is a folder with books/, math/ and wiki/validation.jsonl.gz (see README.md).
# Trainings run in pairs, each on one core.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=experiments/first_light
data=${DATA:-../shared/data}
runs=${RUNS:-runs/first_light}
python=${PYTHON:-.venv/bin/python}
heuristics=random,perplexity_desc,perplexity_asc,recency,lead,similarity,lexical,passage_rank,successor
export OMP_NUM_THREADS=1

train() { # windows, agent, budget
  test -s "$runs/$1-$2/comparison.json" || "$python" -m refrag_rl.train agent="$2" windows="$1" \
    "budget=$3" output="$runs/$1-$2" seed=0 refrag.dtype=bfloat16 evaluation.count=24
}

evaluate() { # name, windows, further arguments
  local name=$1 windows=$2
  shift 2
  test -s "$runs/$name/comparison.json" || "$python" -m refrag_rl.evaluate windows="$windows" \
    "selectors=[$heuristics,$runs/$windows-ppo,$runs/$windows-grpo]" output="$runs/$name" \
    seed=0 refrag.dtype=bfloat16 "$@"
  cp "$runs/$name/comparison.json" "$here/$name.json"
  cp "$runs/$name/comparison.png" "$here/$name.png"
}

for setting in recall:5 retrieved:[8x,2x] contiguous:[8x,2x]; do
  windows=${setting%%:*} budget=${setting#*:}
  train "$windows" ppo "$budget" &
  train "$windows" grpo "$budget"
  wait $!
done

evaluate docs-recall recall 'rates=[]' 'budgets=[5]' count=200 &
evaluate docs-retrieved retrieved count=200
wait $!
evaluate docs-contiguous contiguous count=200

files="corpus.path=[$data/books/validation.jsonl.gz,$data/math/validation.jsonl.gz,$data/wiki/validation.jsonl.gz]"
evaluate files-contiguous contiguous corpus=files "$files" corpus.split=all count=100 &
evaluate files-retrieved retrieved corpus=files "$files" corpus.split=all count=100
wait $!

"$python" $here/planted.py --output $here/planted.json $runs/recall-ppo $runs/recall-grpo
