"""``python -m refrag_rl.pretrain``: make a frozen REFRAG.

1. Language modelling from scratch, over windows read as tokens (only for a decoder without
weights).
2. Reconstruction: decoder frozen, encoder and projector learn to give the chunks' tokens back.
3. Continual pre-training: everything learns to predict the output from mixtures of chunk embeddings
   and tokens.

The run's folder holds the checkpoint of each stage, from which a stopped run goes on, TensorBoard's
events, and at the end ``model/``, which ``refrag.path`` takes.
"""

from __future__ import annotations

from omegaconf import DictConfig

from refrag_rl.commands import run_command


def pretrain(config: DictConfig) -> None:
    """Pre-train as the config says, from where the run in ``output`` was left.

    Args:
        config: As composed from ``refrag_rl/conf/pretrain.yaml``.

    Raises:
        UserError: There is no text, or ``output`` holds a run with another config.
    """
    # Here, not above: --help and mistakes in the config shall not wait for the import of torch.
    from refrag_rl.pretraining.run import run_pretraining

    run_pretraining(config)


if __name__ == "__main__":
    run_command(pretrain, "pretrain")
