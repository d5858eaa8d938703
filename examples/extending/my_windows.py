"""Windows of your own: a question, the passages that your retriever found, and the answer."""

import json

import numpy as np

from refrag_rl.corpora.documents import Document
from refrag_rl.corpora.sampling import Span, assemble
from refrag_rl.corpora.tokenized import TokenizedCorpus
from refrag_rl.errors import UserError


def load(path, domain="questions"):
    """Return one document a row, its text the row itself; its id decides the split."""
    with open(path, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    if not all({"id", "question", "passages", "answer"} <= set(row) for row in rows):
        raise UserError(f"{path}: each row needs id, question, passages and answer")
    return [Document(str(row["id"]), domain, json.dumps(row)) for row in rows]


class QuestionWindows:
    """Context: whole chunks of the passages, best first. Prompt: the question. Output: the answer.

    Args:
        corpus: Rows of one split.
        chunk_size: ``k``, tokens.
        count: Windows, at most; each row is one.
        seed: Of their order.
        context_length: ``s``, tokens; what does not fit is left out.
    """

    kind = "questions"

    def __init__(self, corpus, *, chunk_size, count, seed, context_length=512):
        self.chunk_size, self.num_chunks = chunk_size, context_length // chunk_size
        self._corpus = corpus
        self._order = np.random.default_rng(seed).permutation(len(corpus))[:count]

    def __len__(self):
        """Return the number of windows."""
        return len(self._order)

    def __getitem__(self, index):
        """Return window ``index``."""
        source = self._corpus[int(self._order[index])]
        row = json.loads(source.text)
        texts = [*row["passages"], row["question"] + "\n", row["answer"]]
        documents = [Document(source.id, source.domain, text) for text in texts]
        *found, prompt, output = TokenizedCorpus(documents, self._corpus.tokenizer)
        passages, left = [], self.num_chunks
        for passage in found:
            chunks = min(len(passage) // self.chunk_size, left)
            passages += [Span(passage, 0, chunks * self.chunk_size)] * (chunks > 0)
            left -= chunks
        parts = {"passages": passages, "passage_scores": range(len(passages), 0, -1)}
        parts |= {"prompt": Span(prompt, 0, len(prompt)), "output": Span(output, 0, len(output))}
        sizes = {"chunk_size": self.chunk_size, "num_chunks": self.num_chunks}
        return assemble(key=source.id, prompt_position="after", **parts, **sizes)
