"""Config values that cannot be used, one at a time: each is refused before a folder is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bad_input.checking import QUICK, check_refused
from tests.cli.running import InProcess
from tests.cli.test_pretrain import TINY

TRAIN = """
seed=-1
seed=4294967296
seed=1e30
seed=[1]
seed=nan
train_count=0
train_count=-3
train_count=many
save_every=-1
keep=0
keep=null
budget=null
budget=true
budget=nan
budget=inf
budget=-1
budget=1e9
budget=x
budget='  '
budget=infx
budget=nanx
budget=-4x
budget={chunks:4}
budget=[]
budget=[4x]
budget=[[1,2],3]
budget=[null,2]
budget=[2,nan]
env=null
env.num_envs=0
env.num_envs=-1
env.num_envs=2.5
env.reward=null
env.reward_baseline=best
env.baseline_heuristics=[recency]
env.reward_timing=never
env.reward_timing=1
refrag=null
refrag.path=null
refrag.path=''
refrag.path=/dev/null
refrag.path=../../..
refrag.dtype=int8
refrag.device=tpu
refrag.compile=maybe
refrag.batch_tokens=0
refrag.batch_tokens=-5
refrag.cache_windows=-1
refrag.cache_sets=-1
windows=null
windows.context_length=0
windows.context_length=-64
windows.context_length=65
windows.context_length=8000000
windows.context_length=null
windows.passage_length=0
windows.passage_length=12
windows.passage_length=128
windows.prompt_length=-1
windows.prompt_length=0
windows.output_length=-1
windows.output_length=100000000000
windows.prompt_position=between
windows.pool=1
windows.pool=-1
windows.order=sorted
windows._target_=os.getcwd
windows._target_=builtins.print
windows._target_=refrag_rl.corpora.windows
windows._target_=
corpus=null
corpus._target_=builtins.print
corpus._target_=builtins.len
corpus._target_=nothing
corpus._target_=5
corpus.path=5
corpus.path=null
corpus.path=[]
corpus.path=[5]
corpus.path=[null]
corpus.path={a:1}
corpus.path=''
corpus.path='a\\x00b.txt'
corpus.path="no\\nsuch\\nfile\\n.txt"
corpus.text_field=5
corpus.text_field=null
corpus.text_field=[text]
corpus.text_field=body
corpus.id_field=[id]
corpus.id_field=null
corpus.domain=5
corpus.domain=[]
corpus.split=null
corpus.split=[test]
+corpus.cache_dir=x
agent=null
agent._target_=null
agent._target_=os
agent._target_=os.system
agent._target_=builtins.print
agent._target_=refrag_rl.agents.grpo
agent._target_=[]
agent._target_=refrag_rl.agents.heuristics.Heuristic
agent.policy=5
agent.policy=0
agent.policy=false
agent.policy=[width]
agent.policy.width=0
agent.policy.width=15
agent.policy.width=1.5
agent.policy.heads=3
agent.policy.layers=-1
agent.policy.kernel=4
agent.policy.members=0
agent.policy.neighbours=sentence
agent.policy.logits=often
agent.policy.features=position
agent.policy.features=5
agent.policy.features=[nothing]
agent.policy.features=[[position]]
agent.policy.features=[position,position]
agent.policy.features={a:1}
agent.policy.prompt_token=maybe
agent.policy.reads_embeddings=maybe
agent.policy.prompt_token=true
agent.policy.output_scale=-1
agent.policy.output_scale=inf
agent.policy.output_scale=x
agent.policy.output_scale=true
+agent.policy.depth=3
agent.warm_start=nothing
agent.warm_start=5
agent.warm_start=[]
agent.warm_start_rewards=-1
agent.total_rewards=0
agent.total_rewards=1.5
agent.total_rewards=1e3
agent.total_rewards=null
agent.total_rewards=99999999999999999999
agent.group_size=1
agent.group_size=null
agent.windows_per_update=0
agent.epochs=0
agent.minibatches=0
agent.clip_range=0
agent.clip_range=-1
agent.clip_range=nan
agent.clip_range_upper=-0.1
agent.normalize_spread=perhaps
agent.spread_threshold=-1
agent.credit_per_chunk=2
agent.credit_ridge=0
agent.learning_rate=0
agent.learning_rate=-1
agent.learning_rate=inf
agent.learning_rate=nan
agent.learning_rate=fast
agent.learning_rate_schedule=cosine
agent.entropy_coef=-1
agent.entropy_coef=inf
agent.max_grad_norm=0
agent.reference_windows=-1
agent.seed=-1
agent.seed=18446744073709551616
agent.device=tpu
agent.device=meta
agent.device=hpu
agent.device=cuda:77
agent.device=5
evaluation=null
evaluation.rates=[0]
evaluation.rates=[-1]
evaluation.rates=[nan]
evaluation.rates=[inf]
evaluation.rates=[1]
evaluation.rates=null
evaluation.budgets=[0]
evaluation.budgets=[-1]
evaluation.budgets=[9]
evaluation.budgets=[2.5]
evaluation.budgets=[100000000000000000000]
evaluation.heuristics=[5]
evaluation.heuristics=[ppo]
evaluation.heuristics=recency
evaluation.count=-1
evaluation.validation_count=0
evaluation.eval_every=-1
start_from=nowhere
start_from=''
start_from=[a]
resume=nowhere
resume=.
output=/dev/null
output=/dev/null/run
output=/proc/nothing/run
output=[a]
+nothing=1
~agent
~seed
agent.seed=${nothing}
agent.seed=${agent.seed}
hydra.run.dir=/proc/nothing
hydra/launcher=nothing
hydra.mode=NEVER
--config-name=nothing
--config-dir=/dev/null
==
=
a=b=c
{
'[31mred=1'
""".strip().splitlines()

EVALUATE = """
count=0
count=-5
count=lots
seed=-1
oracle=-1
oracle=x
rates=[] budgets=[]
rates=[-2]
budgets=[10000]
selectors=[nothing]
selectors=['../../..']
selectors=[/dev/null]
selectors=[null]
selectors=[[recency]]
selectors=recency
selectors=['[red]bold[/red]']
windows.output_length=480
windows.output_length=9223372036854775807
windows=mixed windows.parts=5
windows=mixed windows.parts=[null]
windows=mixed windows.parts=[{kind:[recall]}]
windows=mixed windows.context_length=abc
windows=mixed windows.context_length=null
windows=mixed windows.own_places=2
corpus.split=none
output=''/dev/null
""".strip().splitlines()

PRETRAIN = """
seed=-1
keep=0
log_every=0
save_every=0
validate_every=-1
validation_windows=0
betas=[]
betas=[0.9]
betas=[0.9,1.0]
betas=[-1,0.9]
betas=[a,b]
weight_decay=-1
weight_decay=inf
max_gradient_norm=-1
max_gradient_norm=0
bfloat16=maybe
compile=maybe
data=null
data.files=[]
data.files=[nowhere.txt]
data.files=[.]
data.files=[null]
data.files=[5]
data.files_split=test
data.files_split=null
data.text_field=''
data.text_field=null
data.id_field=[id]
data.validation_files=[]
data.validation_files=[nowhere.txt]
tokenizer.vocabulary_size=0
tokenizer.vocabulary_size=-1
tokenizer.share=-0.1
tokenizer.share=2
tokenizer.share=nan
model.chunk_size=0
model.chunk_size=-8
model.chunk_size=1000
model.encoder_pooling=last
model.embedding_scale=-1
model.embedding_scale=nan
model.refrag=nowhere
model.refrag=/dev/null
model.decoder=null
model.decoder=5
model.decoder=.
model.decoder=[a]
model.decoder.model_type=nothing
model.decoder.model_type=roberta
model.decoder.hidden_size=0
model.decoder.hidden_size=-1
model.decoder.hidden_size=33
model.decoder.hidden_size=wide
model.decoder.num_attention_heads=0
model.decoder.num_attention_heads=3
model.decoder.num_hidden_layers=-1
model.decoder.layer_types=[conv]
model.decoder.layer_types=[a,b]
model.decoder.conv_bias=false
model.decoder.max_position_embeddings=64
+model.decoder.vocab_size=10
model.encoder=null
model.encoder=.
model.encoder.model_type=t5
model.encoder.model_type=5
model.encoder.hidden_size=0
model.encoder.num_attention_heads=5
model.encoder.max_position_embeddings=4
model.induction_start=maybe
model.induction_start=false
model.lora.rank=-1
model.lora.dropout=2
model.lora.alpha=nan
language_modelling.steps=-1
language_modelling.batch_tokens=0
language_modelling.batch_windows=4
language_modelling.accumulate=0
language_modelling.warmup=2
language_modelling.learning_rate=-1
language_modelling.learning_rate=nan
language_modelling.optimizer=sgd
language_modelling.expanded_fraction=[0.5]
language_modelling.expanded_fraction=[2,3]
language_modelling.expanded_fraction=[1,0]
language_modelling.parts=[]
language_modelling.parts=[{}]
language_modelling.parts=[5]
language_modelling.parts=[{kind:novel,weight:1}]
language_modelling.parts=[{kind:contiguous,weight:0}]
language_modelling.parts=[{kind:contiguous,weight:-1}]
language_modelling.parts=[{kind:contiguous,weight:1,domains:[nowhere]}]
language_modelling.parts=[{kind:contiguous,weight:1,windows:{length:9}}]
language_modelling.parts=[{kind:contiguous,weight:1,windows:{context_length:a}}]
language_modelling.parts=[{kind:contiguous,weight:1,windows:{count:4}}]
language_modelling.parts=[{kind:contiguous,weight:1,windows:{context_length:800000}}]
language_modelling.parts=[{kind:recall,weight:1,windows:{passage_length:8,output_length:64}}]
reconstruction=null
reconstruction.min_chunks=9
reconstruction.max_chunks=0
reconstruction.max_chunks=4000000
reconstruction.curriculum_stages=0
continual.steps=many
continual.curriculum_stages=0
continual.expanded_runs=-0.1
continual.expanded_runs=1.5
pretrain=huge
output=/dev/null
output=/dev/null/run
output=null
""".strip().splitlines()

BENCHMARK = """
nothing
rewards count=0
rewards repeats=0
rewards dtypes=[int8]
rewards rates=[nan]
env views=[sideways]
env episodes=0
env budget=x
latency lengths=[0]
latency model.decoder=5
latency repeats=-1
pretrain batch=0
pretrain decoder=[]
train agents=[nothing]
train total_rewards=0
""".strip().splitlines()


@pytest.mark.parametrize("argument", TRAIN)
def test_train(in_process: InProcess, tmp_path: Path, tiny: tuple[str, ...], argument: str) -> None:
    given = ("agent=grpo", *tiny, *QUICK, "output=out", _unquoted(argument))
    check_refused(in_process("train", *given), tmp_path)


@pytest.mark.parametrize("arguments", EVALUATE)
def test_evaluate(
    in_process: InProcess, tmp_path: Path, tiny: tuple[str, ...], arguments: str
) -> None:
    quick = ("count=2", "rates=[2]", "selectors=[recency]", "corpus.split=all", "output=out")
    check_refused(in_process("evaluate", *tiny, *quick, *arguments.split()), tmp_path)


@pytest.mark.parametrize("argument", PRETRAIN)
def test_pretrain(in_process: InProcess, tmp_path: Path, argument: str) -> None:
    words = " ".join(f"word{number % 37}" for number in range(1500))
    (tmp_path / "text.txt").write_text(words)
    data = ("data.files=[text.txt]", "data.validation_files=[text.txt]")
    check_refused(in_process("pretrain", *TINY, *data, "output=out", argument), tmp_path)


@pytest.mark.parametrize("arguments", BENCHMARK)
def test_benchmark(in_process: InProcess, tmp_path: Path, arguments: str) -> None:
    check_refused(in_process("benchmark", *arguments.split(), "output=out"), tmp_path)


def _unquoted(argument: str) -> str:
    return argument.strip("'") if argument[0] == argument[-1] == "'" else argument
