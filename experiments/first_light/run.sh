#!/usr/bin/env bash
# Remakes every number and figure of experiments/first_light, in about an hour on 2 cores.
# DATA is a folder with books/, math/ and wiki/validation.jsonl.gz (see README.md).
# Every command runs on one core; two run side by side.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=experiments/first_light
data=${DATA:-../shared/data}
runs=${RUNS:-runs/first_light}
python=${PYTHON:-.venv/bin/python}
heuristics=random,perplexity_desc,perplexity_asc,recency,lead,similarity,lexical,passage_rank,successor
export OMP_NUM_THREADS=1

train() { # windows, agent, budget, rewards, windows to train on
  test -s "$runs/$1-$2/comparison.json" || "$python" -m refrag_rl.train agent="$2" windows="$1" \
    "budget=$3" agent.total_rewards="$4" train_count="$5" output="$runs/$1-$2" seed=0 \
    refrag.dtype=bfloat16 evaluation.count=24 evaluation.eval_every=4000
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

rates='[8x,2x]'
files="corpus.path=[$data/books/validation.jsonl.gz,$data/math/validation.jsonl.gz,$data/wiki/validation.jsonl.gz]"

one() {
  train recall grpo 5 8000 20000
  train retrieved grpo "$rates" 4000 20000
  train contiguous grpo "$rates" 4000 20000
}

other() {
  train recall ppo 5 5000 500
  train retrieved ppo "$rates" 4000 500
  train contiguous ppo "$rates" 4000 500
}

one &
other
wait $!
evaluate docs-retrieved retrieved count=120 &
evaluate docs-contiguous contiguous count=120
wait $!
evaluate files-retrieved retrieved corpus=files "$files" corpus.split=all count=40 &
evaluate files-contiguous contiguous corpus=files "$files" corpus.split=all count=40
wait $!
evaluate docs-recall recall 'rates=[]' 'budgets=[5]' count=200
"$python" $here/planted.py --output $here/planted.json "$runs/recall-ppo" "$runs/recall-grpo"
