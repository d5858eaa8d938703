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

train() { # folder, windows, agent, budget, rewards, windows to train on, further arguments
  local name=$1 windows=$2 agent=$3 budget=$4 rewards=$5 count=$6
  shift 6
  test -s "$runs/$name/comparison.json" || "$python" -m refrag_rl.train agent="$agent" \
    windows="$windows" "budget=$budget" agent.total_rewards="$rewards" train_count="$count" \
    output="$runs/$name" refrag.dtype=bfloat16 evaluation.count=24 \
    evaluation.eval_every=4000 "$@"
}

evaluate() { # name, windows, heuristics, further arguments
  local name=$1 windows=$2 rules=$3
  shift 3
  test -s "$runs/$name/comparison.json" || "$python" -m refrag_rl.evaluate windows="$windows" \
    "selectors=[$rules,$runs/$windows-ppo,$runs/$windows-grpo]" output="$runs/$name" \
    seed=0 refrag.dtype=bfloat16 "$@"
  cp "$runs/$name/comparison.json" "$here/$name.json"
  cp "$runs/$name/comparison.png" "$here/$name.png"
}

rates='[8x,2x]'
files="corpus.path=[$data/books/validation.jsonl.gz,$data/math/validation.jsonl.gz,$data/wiki/validation.jsonl.gz]"

one() {
  train recall-grpo recall grpo 5 8000 20000
  train contiguous-grpo contiguous grpo "$rates" 2000 20000
  train retrieved-grpo retrieved grpo "$rates" 4000 20000 start_from="$runs/recall-grpo"
  train contiguous-ppo contiguous ppo "$rates" 2000 300
}

other() {
  train recall-ppo-first recall ppo 5 5000 500
  train recall-ppo recall ppo 5 4000 500 seed=1 start_from="$runs/recall-ppo-first"
  train retrieved-ppo retrieved ppo "$rates" 3000 400 start_from="$runs/recall-ppo"
}

one &
other
wait $!
# With random as the only heuristic, differences are to random.
evaluate docs-retrieved-random retrieved random count=200
evaluate docs-contiguous-random contiguous random count=120 &
evaluate docs-recall recall "$heuristics" 'rates=[]' 'budgets=[5]' count=150
wait $!
evaluate docs-retrieved retrieved "$heuristics" count=80 &
evaluate docs-contiguous contiguous "$heuristics" count=80
wait $!
evaluate files-retrieved retrieved "$heuristics" corpus=files "$files" corpus.split=all count=20 &
evaluate files-contiguous contiguous "$heuristics" corpus=files "$files" corpus.split=all count=20
wait $!
"$python" $here/planted.py --count 150 --output $here/planted.json "$runs/recall-ppo" "$runs/recall-grpo"
"$python" $here/tables.py
"$python" $here/curves.py "$runs"
