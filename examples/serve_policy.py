"""A policy in a request: a question, passages found for it, chunks expanded, tokens generated.

The documents are docstrings of Python's own library, on which nothing was trained. The model is
tiny: it repeats what it can look up, and all else that it writes is poor text.

Run: python examples/serve_policy.py
"""

import inspect
from importlib import import_module

import numpy as np
import torch

from refrag_rl.agents.policy_selector import PolicySelector
from refrag_rl.agents.shipped import find_shipped
from refrag_rl.corpora.docs import docstrings
from refrag_rl.corpora.documents import Document
from refrag_rl.corpora.retrieval import PassageIndex
from refrag_rl.corpora.sampling import Span, assemble
from refrag_rl.corpora.tokenized import TokenizedCorpus
from refrag_rl.envs import ExpansionProblem
from refrag_rl.modeling.checkpoint import load_refrag
from refrag_rl.observation import inputs_of
from refrag_rl.reward import RewardModel

MODULES = "argparse collections csv datetime heapq logging random shutil statistics tarfile"
PASSAGES, LENGTH = 8, 64  # in a context; tokens of each: a multiple of the 16 of a chunk


class Requests(list):
    """Windows as the ``WindowSource`` that a problem takes."""

    kind, chunk_size, num_chunks = "request", 16, PASSAGES * LENGTH // 16


def window_of(question, index, tokenizer):
    """Return the window of a question and of the passages found for it; it has no output."""
    text = TokenizedCorpus([Document("question", "request", question)], tokenizer)[0]
    prompt, nothing = Span(text, 0, len(text)), Span(text, len(text), len(text))
    passages, scores = zip(*index.search(prompt.ids(), PASSAGES), strict=True)
    sizes = {"chunk_size": Requests.chunk_size, "num_chunks": Requests.num_chunks}
    parts = {"passages": passages, "passage_scores": scores, "prompt": prompt, "output": nothing}
    return assemble(key=question, **parts, **sizes, prompt_position="after")  # cached by key


@torch.inference_mode()
def generate(model, frozen, window, expanded, tokens):
    """Return the ids (t,) that the decoder writes where chunks ``expanded`` (L,) are tokens."""
    parts = (window.context_ids, window.chunk_mask, expanded, window.prompt_ids)
    no_output = torch.zeros(1, 0, dtype=torch.long)
    layout = model.lay_out(*(torch.from_numpy(part)[None] for part in parts), no_output)
    inputs = model.embed(layout, torch.from_numpy(frozen.chunk_embeddings([window])))
    options = {"attention_mask": layout.attention_mask.long(), "max_new_tokens": tokens}
    return model.decoder.generate(inputs_embeds=inputs, do_sample=False, **options)[0]


def main(question="When the number of data points is odd, return the", budget=6, tokens=16):
    """Answer a question with nothing expanded, and with what the policy expands."""
    loaded = load_refrag("tiny-k16")
    frozen = RewardModel(loaded.model, loaded.chunk_tokenizer)
    policy = PolicySelector.load(find_shipped("policy:default", frozen.fingerprint))
    texts = {name: inspect.getsource(import_module(name)) for name in MODULES.split()}
    documents = [Document(name, "python", docstrings(text, name)) for name, text in texts.items()]
    index = PassageIndex(TokenizedCorpus(documents, loaded.tokenizer), LENGTH)

    window = window_of(question, index, loaded.tokenizer)
    budgets, problem = np.array([budget]), ExpansionProblem(Requests([window]), frozen)
    observation = problem.observe([0], budgets, inputs_of(policy))
    expanded = policy.select(observation, budgets, np.random.default_rng(0))[0]
    print("question:", repr(question))
    for chunk in np.flatnonzero(expanded):
        print(f"expanded: {chunk:2} {window.chunk_texts[chunk]!r}")
    for name, chunks in (("nothing expanded", expanded & False), ("policy", expanded)):
        ids = generate(loaded.model, frozen, window, chunks, tokens)
        print(f"{name}: {loaded.tokenizer.decode(ids)!r}")


if __name__ == "__main__":
    main()
