#!/usr/bin/env bash
# Remakes experiments/selection. What is done is left out; a training that was stopped goes on.
#
#   DATA=FOLDER experiments/selection/run.sh STEP...      all: every step, in order
#
# Steps: plan corpus train train_compared validate evaluate oracle inputs budgets table13 results.
# `plan` prints the cost of the others and starts nothing. DATA: see README.md.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=experiments/selection
data=${DATA:-../shared/data}
runs=${RUNS:-runs/selection}
output=${OUTPUT:-$here} # where results.json, curves.json, table13.json and the figures go
python=${PYTHON:-.venv/bin/python}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} PYTHONPATH="$PWD"

# Sizes.
refrag=${REFRAG:-tiny-k16}
refrag_k8=${REFRAG_K8:-tiny-k8}
dtype=${DTYPE:-bfloat16}
compile=${COMPILE:-false} # worth it with AMX and parts of 300
seeds=${SEEDS:-0 1 2 3 4}                # of every agent
rewards=${REWARDS:-4000}                 # sets scored in each training
grpo_long_rewards=${GRPO_LONG_REWARDS:-12000} # sets scored in each of grpo_paper_long
grpo_long_seeds=${GRPO_LONG_SEEDS:-0 1 2 3 4} # of it
grpo_long_every=${GRPO_LONG_EVERY:-500}  # rewards between two points of its curves
compared_seeds=${COMPARED_SEEDS:-0 1 2 3 4} # of the agents that are compared in every cell
together_of=${TOGETHER_OF:-gains}        # whose networks `together` has
together_size=${TOGETHER_SIZE:-5}        # runs of it in each: together-0 of its seeds 0 to 4, and so on
together_seeds=${TOGETHER_SEEDS:-0 1}
train_count=${TRAIN_COUNT:-2000}         # windows trained on
own_places=${OWN_PLACES:-false}          # of each kind of them; false, as in what stands here: all kinds of the same places
validation_count=${VALIDATION_COUNT:-16} # windows of each domain in the curves
eval_every=${EVAL_EVERY:-250}            # rewards between two points of the curves
count=${COUNT:-300}                      # windows of each cell
part=${PART:-100}                        # windows of a cell that are scored, and kept, together
table13_count=${TABLE13_COUNT:-100}      # windows of each domain in Table 13
oracle_count=${ORACLE_COUNT:-24}         # of which the oracle searches the first
contiguous_oracle_count=${CONTIGUOUS_ORACLE_COUNT:-12}
oracle_rates=${ORACLE_RATES:-8,4,2}      # the lower, the more expensive
swap_rounds=${SWAP_ROUNDS:-0}            # of the oracle; each is about as expensive as its greedy search
domains=${DOMAINS:-docs books math wiki}
kinds=${KINDS:-contiguous contiguous-q64 strong weak recall}
rates=${RATES:-8,4,2}
agents=${AGENTS:-grpo_paper grpo_passage grpo_members grpo rloo rloo_passage reinforce ppo ppo_warm ppo_per_step imitation regression_plain regression_one regression}
replay_rewards=${REPLAY_REWARDS:-6000}   # sets scored in each training of replay
gains_rewards=${GAINS_REWARDS:-24000}    # and of gains and members
rloo_rewards=${RLOO_REWARDS:-10000}      # and of rloo_gains, after those of gains
evaluated=${EVALUATED:-together members gains replay rloo_gains} # compared in every cell: these, or agents
choosing_count=${CHOOSING_COUNT:-250}    # validation windows of each domain, by which one of them is chosen
candidates=${CANDIDATES:-replay gains members together} # one is chosen by `validate`: that of the lowest log-perplexity
pairs=${PAIRS:-together=members together=gains members=gains gains=replay} # compared with each other, over all cells
after=${AFTER:-rloo_gains=gains} # the same, run by run: one goes on from the other
chosen=${CHOSEN:-together}               # which it was; Table 13 and the table of copies have it
alike=${ALIKE:-rloo=regression_plain grpo_passage=regression_one grpo_members=regression} # of the same network
recommended=${RECOMMENDED:-regression}   # RL.md says why
studied=${STUDIED:-rloo_warm}            # agent of the ablation of inputs and of budgets
input_seeds=${INPUT_SEEDS:-0 1}
input_count=${INPUT_COUNT:-100}          # windows of each cell
input_cells=${INPUT_CELLS:-docs/strong docs/recall docs/contiguous}
sets_per_second=${SETS_PER_SECOND:-45}   # for `plan` only; measure: refrag_rl.benchmark rewards

# The policy of the ablations; that of conf/agent reads no chunk embeddings.
reads="agent.policy.reads_embeddings=true agent.policy.prompt_token=true"
warm="agent.warm_start=regression agent.warm_start_rewards=${WARM_REWARDS:-2000}" # of its rewards
# Agents that score one or two sets a window would spend most of their time on new windows.
few="train_count=${FEW_COUNT:-500}"
rloo="agent=rloo agent.credit_per_chunk=true agent.learning_rate=1e-3"
rloo_warm="$rloo $reads $warm"
one="agent=regression agent.policy.members=1" # one network in place of five
plain="$one agent.averaging=0" # and its last weights in place of their average
convolution="agent.policy.neighbours=convolution" passage="agent.policy.neighbours=passage"
replay="$plain evaluation.eval_every=0"
declare -A settings=( # SEED: that of the training
  [grpo_paper]="agent=grpo" # G = 8, spread normalized, no warm start
  [grpo_paper_long]="agent=grpo agent.total_rewards=$grpo_long_rewards
    evaluation.eval_every=$grpo_long_every"
  [grpo_passage]="agent=grpo $passage" # what regression has
  [grpo_members]="agent=grpo $passage agent.policy.members=5" # and as many networks
  [grpo]="agent=grpo agent.normalize_spread=false agent.clip_range_upper=0.28 agent.credit_per_chunk=true"
  [rloo]="agent=rloo agent.credit_per_chunk=true agent.warm_start=regression"
  [rloo_passage]="agent=rloo agent.credit_per_chunk=true agent.warm_start=regression $passage"
  [reinforce]="agent=reinforce $few"
  [ppo]="agent=ppo agent.warm_start=null $few"
  [ppo_warm]="agent=ppo $few" # after a regression
  [ppo_per_step]="agent=ppo agent.warm_start=null env.reward_timing=per_step $few
    agent.total_rewards=${EPISODES:-500} evaluation.eval_every=${EPISODES_EVERY:-50}" # a set a pick
  [imitation]="agent=imitation"
  [regression_plain]="$plain $convolution" # the policy that the agents with RL have
  [regression_one]="$one"
  [regression]="agent=regression"
  [rloo_warm]="$rloo_warm" # the studied one
  # With more rewards; not compared while they learn.
  [replay]="$replay $convolution agent.total_rewards=$replay_rewards"
  [gains]="$replay $passage agent.total_rewards=$gains_rewards train_count=4000"
  [members]="agent=regression evaluation.eval_every=0 agent.total_rewards=$gains_rewards
    train_count=4000" # gains with five networks and averaged weights
  [rloo_gains]="$rloo $passage agent.warm_start=$runs/train/gains-SEED evaluation.eval_every=0
    agent.total_rewards=$rloo_rewards train_count=4000"
)
statistics=log_perplexity,reconstruction_loss
lexical=similarity,lexical,suffix_match
alone='agent.policy.prompt_token=false agent.policy.budget_token=false'
declare -A inputs=( # each adds to the one before, up to `lexical`; the rest change the default
  [embeddings]="agent.policy.features=[] $alone" # the paper's
  [position]="agent.policy.features=[position] $alone"
  [prompt]="agent.policy.features=[position] agent.policy.budget_token=false"
  [statistics]="agent.policy.features=[position,$statistics] agent.policy.budget_token=false"
  [lexical]="agent.policy.features=[position,$statistics,$lexical] agent.policy.budget_token=false"
  [each_pick]="agent.policy.logits=each_pick"
  [projector]="env.chunk_embeddings=projector"
)
input_names=${INPUT_NAMES:-embeddings position prompt statistics lexical each_pick projector}

corpus() { # docs, books and math as one file
  mkdir -p "$runs"
  test -s "$runs/train.jsonl.gz" || "$python" $here/corpus.py --data "$data" "$runs/train.jsonl.gz"
}

train_each() { # names, seeds
  local name seed
  corpus
  for seed in $2; do
    for name in $1; do
      # shellcheck disable=SC2086 # a list of settings
      train_one "$name-$seed" "$seed" ${settings[$name]//SEED/$seed}
    done
  done
}

train() {
  train_each "$agents" "$seeds"
  train_each grpo_paper_long "$grpo_long_seeds"
}

train_compared() { # those that are compared in every cell
  local name
  for name in $evaluated; do
    if [ "$name" = together ]; then
      join
    else
      train_each "$name" "$(seeds_of "$name")"
    fi
  done
}

join() { # runs of `together_of` into the policies of `together`
  local seed part parts list
  for seed in $together_seeds; do
    parts=$(seq $((seed * together_size)) $(((seed + 1) * together_size - 1)))
    train_each "$together_of" "$parts"
    list=()
    for part in $parts; do list+=("$runs/train/$together_of-$part"); done
    test -s "$runs/train/together-$seed/policy.json" ||
      "$python" $here/together.py "$runs/train/together-$seed" "${list[@]}"
  done
}

train_one() { # name, seed, further arguments
  local folder=$runs/train/$1 seed=$2
  shift 2
  if test -s "$folder/comparison.png"; then return; fi
  if test -e "$folder/config.yaml"; then
    "$python" -m refrag_rl.train resume="$folder"
  else
    "$python" -m refrag_rl.train output="$folder" seed="$seed" refrag.path="$refrag" \
      refrag.dtype="$dtype" refrag.compile="$compile" windows=mixed "windows.own_places=$own_places" corpus=files "corpus.path=$runs/train.jsonl.gz" \
      'budget=[8x,2x]' agent.total_rewards="$rewards" train_count="$train_count" \
      evaluation.validation_count="$validation_count" evaluation.eval_every="$eval_every" \
      evaluation.count=1 "evaluation.rates=[$rates]" report.windows=0 agent.reference_windows=0 "$@"
  fi
}

compare() { # folder, domain, kind, windows, further arguments
  local folder=$1 domain=$2 kind=$3 wanted=$4 first name
  shift 4
  for ((first = 0; first < wanted; first += part)); do
    name=$folder
    if ((first)); then name+=.$first; fi
    compare_part "$name" "$domain" "$kind" "first=$first" \
      "count=$((wanted - first < part ? wanted - first : part))" "$@"
  done
}

compare_part() { # folder, domain, kind, further arguments
  local folder=$1 domain=$2 kind=$3
  shift 3
  local corpus=(corpus=docs corpus.split=test) windows
  test "$domain" = docs ||
    corpus=(corpus=files "corpus.path=$data/$domain/validation.jsonl.gz" corpus.split=all)
  case $kind in
    contiguous) windows=(windows=contiguous) ;;
    contiguous-q64) windows=(windows=contiguous windows.prompt_length=64) ;;
    strong | weak) windows=(windows=retrieved windows.retriever="$kind") ;;
    recall) windows=(windows=recall) ;;
    *) echo "there is no kind $kind" >&2; exit 2 ;;
  esac
  score "$folder" "$output/scores/$domain/$kind/${folder##*/}.parquet" \
    "${corpus[@]}" "${windows[@]}" "$@"
}

score() { # folder, file of scores that is kept, further arguments
  local folder=$1 scores=$2
  shift 2
  if test -s "$scores"; then return; fi
  rm -rf "$folder" # of a comparison that was stopped
  "$python" -m refrag_rl.evaluate output="$folder" refrag.path="$refrag" \
    refrag.dtype="$dtype" refrag.compile="$compile" report.windows=0 references=false seed=0 "rates=[$rates]" "$@"
  mkdir -p "${scores%/*}"
  cp "$folder/window_scores.parquet" "$scores.new"
  mv "$scores.new" "$scores"
}

validate() { # by which of those compared one is chosen: windows of all kinds, none of the cells
  local name
  corpus
  for name in $evaluated; do
    score "$runs/validation/$name" "$output/validation/$name.parquet" windows=mixed windows.own_places=false corpus=files \
      "corpus.path=$runs/train.jsonl.gz" corpus.split=validation "count=$choosing_count" \
      "selectors=$(folders "$name" "$(seeds_of "$name")")"
  done
}

seeds_of() { # name of a training
  case $1 in
    together) echo "$together_seeds" ;;
    members | gains | replay | rloo_gains) echo "$compared_seeds" ;;
    *) echo "$seeds" ;;
  esac
}

folders() { # name, seeds: the runs as a list for selectors=
  local name=$1 seed list=()
  for seed in $2; do list+=("$runs/train/$name-$seed"); done
  local IFS=,
  echo "[${list[*]}]"
}

evaluate() {
  local domain kind name
  for domain in $domains; do
    for kind in $kinds; do
      compare "$runs/cells/$domain/$kind/heuristics" "$domain" "$kind" "$count"
      for name in $evaluated; do
        compare "$runs/cells/$domain/$kind/$name" "$domain" "$kind" "$count" \
          "selectors=$(folders "$name" "$(seeds_of "$name")")"
      done
    done
  done
}

oracle() {
  local domain kind searched
  for domain in $domains; do
    for kind in $kinds; do
      searched=$oracle_count
      case $kind in contiguous*) searched=$contiguous_oracle_count ;; esac
      compare "$runs/cells/$domain/$kind/oracle" "$domain" "$kind" "$searched" \
        'selectors=[random]' oracle="$swap_rounds" "rates=[$oracle_rates]"
    done
  done
}

as_it_is() { # the studied agent, its inputs and budgets the default ones
  local cell
  train_each "$studied" "$input_seeds"
  for cell in $input_cells; do
    compare "$runs/cells/$cell/$studied" "${cell%/*}" "${cell#*/}" "$input_count" \
      "selectors=$(folders "$studied" "$input_seeds")"
  done
}

inputs() {
  local name seed cell
  as_it_is
  for name in $input_names; do
    for seed in $input_seeds; do
      # shellcheck disable=SC2086 # lists of settings
      train_one "inputs_$name-$seed" "$seed" ${settings[$studied]} ${inputs[$name]}
    done
    for cell in $input_cells; do
      compare "$runs/cells/$cell/inputs_$name" "${cell%/*}" "${cell#*/}" "$input_count" \
        "selectors=$(folders "inputs_$name" "$input_seeds")"
    done
  done
}

budgets() { # the studied agent at one budget each, against the same trained over sampled ones
  local rate seed cell
  as_it_is
  for rate in ${rates//,/ }; do
    for seed in $input_seeds; do
      # shellcheck disable=SC2086 # a list of settings
      train_one "budget_$rate-$seed" "$seed" ${settings[$studied]} "budget=${rate}x"
    done
    for cell in $input_cells; do
      compare "$runs/cells/$cell/budget_$rate" "${cell%/*}" "${cell#*/}" "$input_count" \
        "selectors=$(folders "budget_$rate" "$input_seeds")" "rates=[$rate]"
    done
  done
}

table13() {
  local policies=() seed
  for seed in $(seeds_of "$chosen"); do policies+=("$runs/train/$chosen-$seed"); done
  test -s "$output/table13.json" || "$python" $here/table13.py --data "$data" --count "$table13_count" \
    --refrag "$refrag" --refrag-k8 "$refrag_k8" --domains $domains \
    --output "$output/table13.json" "${policies[@]}"
}

results() { # from what there is: JSON, figures, the tables of README.md and RL.md
  "$python" $here/results.py "$output/scores" "$output/validation" "$output/results.json" \
    --agents $evaluated --candidates $candidates --studied "$studied" \
    --pairs $pairs --after $after
  "$python" $here/copies.py "$output/scores" "$output/copies.json" --agent "$chosen"
  "$python" $here/curves.py "$runs/train" "$output" --agents $agents --longer grpo_paper_long \
    --compared grpo_passage grpo_members rloo_passage regression_plain regression_one --recommended "$recommended" \
    --alike $alike
  "$python" $here/figure3.py "$output"
  "$python" $here/pages.py "$output"
}

plan() {
  "$python" $here/plan.py --rate "$sets_per_second" --rewards "$rewards" --count "$count" \
    --input-count "$input_count" --oracle-count "$oracle_count" --oracle-rates ${oracle_rates//,/ } \
    --swap-rounds "$swap_rounds" --eval-every "$eval_every" \
    --validation-count "$validation_count" --agents $(wc -w <<<"$agents") \
    --seeds $(wc -w <<<"$seeds") --grpo-long-rewards "$grpo_long_rewards" \
    --grpo-long-every "$grpo_long_every" --grpo-long-seeds $(wc -w <<<"$grpo_long_seeds") \
    --gains-rewards "$gains_rewards" --replay-rewards "$replay_rewards" --rloo-rewards "$rloo_rewards" \
    --choosing-count "$choosing_count" --compared-seeds $(wc -w <<<"$compared_seeds") \
    --together-seeds $(wc -w <<<"$together_seeds") --together-size "$together_size" \
    --cells $(($(wc -w <<<"$domains") * $(wc -w <<<"$kinds"))) \
    --inputs $(wc -w <<<"$input_names") --input-seeds $(wc -w <<<"$input_seeds") \
    --input-cells $(wc -w <<<"$input_cells")
}

all() {
  plan
  train
  train_compared
  validate
  evaluate
  oracle
  inputs
  budgets
  table13
  results
}

for step in "${@:-plan}"; do
  "$step"
done
