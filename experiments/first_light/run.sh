#!/usr/bin/env bash
# Remakes every number and figure of experiments/first_light. It was not run in one go.
# DATA is a folder with books/, math/ and wiki/validation.jsonl.gz (see README.md).
# Every command runs on one core; two run side by side.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=experiments/first_light
data=${DATA:-../shared/data}
runs=${RUNS:-runs/first_light}
python=${PYTHON:-.venv/bin/python}
heuristics=random,perplexity_desc,perplexity_asc,recency,lead,similarity,lexical,passage_rank,successor
export OMP_NUM_THREADS=1 PYTHONPATH="$PWD"

train() { # folder, windows, agent, budget, rewards, windows to train on, further arguments
  local name=$1 windows=$2 agent=$3 budget=$4 rewards=$5 count=$6
  shift 6
  test -s "$runs/$name/comparison.json" || "$python" -m refrag_rl.train agent="$agent" \
    windows="$windows" "budget=$budget" agent.total_rewards="$rewards" train_count="$count" \
    output="$runs/$name" refrag.dtype=bfloat16 corpus.split=validation evaluation.count=24 \
    evaluation.eval_every=0 agent.policy.reads_embeddings=true agent.policy.prompt_token=true \
    agent.warm_start=null "$@"
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
  train recall-grpo-1 recall grpo 5 12000 20000
  train recall-grpo-2 recall grpo 5 12000 20000 seed=1 start_from="$runs/recall-grpo-1" \
    agent.learning_rate=0.001 agent.windows_per_update=32
  train recall-grpo recall grpo 5 12000 20000 seed=2 start_from="$runs/recall-grpo-2" \
    agent.learning_rate=0.0007 agent.windows_per_update=32 agent.normalize_spread=false
  train retrieved-grpo retrieved grpo "$rates" 4000 20000 start_from="$runs/recall-grpo-2"
  train contiguous-grpo contiguous grpo "$rates" 2000 20000
  train contiguous-ppo contiguous ppo "$rates" 2000 300
}

other() {
  train recall-ppo-1 recall ppo 5 8000 800 env.reward_baseline=successor
  train recall-ppo-2 recall ppo 5 6000 1500 env.reward_baseline=successor seed=1 \
    start_from="$runs/recall-ppo-1" agent.learning_rate=0.0007 \
    agent.episodes_per_update=256 agent.minibatches=2
  train recall-ppo recall ppo 5 6000 1500 env.reward_baseline=successor seed=2 \
    start_from="$runs/recall-ppo-2" agent.learning_rate=0.0005 \
    agent.episodes_per_update=256 agent.minibatches=2
  train retrieved-ppo retrieved ppo "$rates" 3000 400 start_from="$runs/recall-ppo"
}

one &
other
wait $!
# With random as the only heuristic, differences are to random.
evaluate docs-retrieved-random retrieved random count=200 &
evaluate docs-contiguous-random contiguous random count=200
wait $!
evaluate docs-recall recall "$heuristics" 'rates=[]' 'budgets=[5]' count=300 &
evaluate docs-retrieved retrieved "$heuristics" count=200
wait $!
evaluate docs-contiguous contiguous "$heuristics" count=200 &
evaluate files-retrieved retrieved "$heuristics" corpus=files "$files" corpus.split=all count=100
wait $!
evaluate files-contiguous contiguous "$heuristics" corpus=files "$files" corpus.split=all count=100
"$python" $here/planted.py --count 300 --output $here/planted.json "$runs/recall-ppo" "$runs/recall-grpo"
"$python" $here/tables.py
"$python" $here/curves.py "$runs"
