"""The clock of a model: decoder and encoder apart, only what happens while it is entered."""

from __future__ import annotations

import numpy as np

from refrag_rl.benchmarks.model_clock import ModelClock
from refrag_rl.modeling.chunk_tokenizer import ChunkTokenizer
from refrag_rl.reward import RewardModel
from tests.tiny_models import byte_level_tokenizer, random_window, tiny_refrag


def test_each_part_counts_its_own_time() -> None:
    model = tiny_refrag()
    reward_model = RewardModel(model, ChunkTokenizer(byte_level_tokenizer(), start_token_id=1))
    windows = [random_window(0)]
    everything = np.ones((1, windows[0].num_chunks), dtype=np.bool_)
    with ModelClock(reward_model) as clock:
        assert clock.read() == (0, 0)
        reward_model.chunk_embeddings(windows)
        encoded = clock.read()
        assert encoded.encoder > 0
        assert encoded.decoder == 0
        reward_model.log_perplexity(windows, everything)
        scored = clock.read() - encoded
        assert scored.encoder == 0
        assert scored.decoder > 0
    reward_model.clear()
    reward_model.chunk_embeddings(windows)
    assert clock.read().encoder == encoded.encoder
