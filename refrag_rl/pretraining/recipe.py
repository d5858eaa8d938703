"""The stages of pre-training, put together from the config."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedTokenizerFast

from refrag_rl.corpora import docs, files
from refrag_rl.corpora.contiguous import ContiguousWindows
from refrag_rl.corpora.documents import Document, Split, select_split
from refrag_rl.corpora.recall import RecallWindows
from refrag_rl.corpora.retrieved import RetrievedWindows
from refrag_rl.corpora.tokenized import TokenizedCorpus
from refrag_rl.corpora.windows import WindowSource
from refrag_rl.errors import UserError
from refrag_rl.modeling import RefragForCausalLM
from refrag_rl.pretraining.batches import (
    INDEFINITE,
    Batch,
    MixtureBatches,
    Part,
    ReconstructionBatches,
)
from refrag_rl.pretraining.curriculum import Curriculum
from refrag_rl.pretraining.initialization import start_with_induction
from refrag_rl.pretraining.loss import mixed_loss
from refrag_rl.pretraining.optimizer import build_optimizers
from refrag_rl.pretraining.settings import (
    DataSection,
    ModelSection,
    PartSection,
    PretrainConfig,
    ReconstructionSection,
    StageSection,
)
from refrag_rl.pretraining.trainer import Progress, StageSettings, run_stage
from refrag_rl.pretraining.validation import Validation
from refrag_rl.training_state import Checkpoint

STAGES = ("language_modelling", "reconstruction", "continual")

_KINDS: dict[str, Callable[..., WindowSource]] = {
    "contiguous": ContiguousWindows,
    "recall": RecallWindows,
    "retrieved": RetrievedWindows,
}


def load_documents(data: DataSection, split: Split) -> list[Document]:
    """Read the training or the validation documents.

    Args:
        data: Section of the config.
        split: ``train`` or ``validation``.

    Raises:
        UserError: There are none.
    """
    paths = data.files if split == "train" else data.validation_files
    documents = select_split(docs.load(), split) if data.docs else []
    if paths:
        documents += files.load(list(paths))
    if not documents:
        raise UserError(
            f"data: there are no {split} documents. Set data.docs=true or give data.files=[...]."
        )
    return documents


def build_model(model: ModelSection, tokenizer: PreTrainedTokenizerFast) -> RefragForCausalLM:
    """Make the model; encoder and decoder are loaded, or made from scratch with random weights.

    An encoder from scratch that is as wide as the decoder starts from the decoder's token
    embeddings (``start_encoder``) once these are trained.
    """
    decoder = _load_or_make(model.decoder, AutoModelForCausalLM, tokenizer)
    if model.induction_start:
        start_with_induction(decoder, embedding_scale=model.embedding_scale)
    return RefragForCausalLM.from_encoder_decoder(
        _load_or_make(model.encoder, AutoModel, tokenizer),
        decoder,
        model.chunk_size,
        encoder_pooling=cast(Any, model.encoder_pooling),
        shared_tokenizer=True,
        bos_token_id=tokenizer.bos_token_id,
        cls_token_id=tokenizer.cls_token_id,
    )


def _load_or_make(section: Any, auto_class: Any, tokenizer: PreTrainedTokenizerFast) -> Any:
    if isinstance(section, str):
        return section
    settings = {str(key): value for key, value in dict(section).items()}
    name = str(settings.pop("model_type"))
    config = AutoConfig.for_model(
        name,
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **settings,
    )
    return auto_class.from_config(config)


@torch.no_grad()
def start_encoder(model: RefragForCausalLM) -> None:
    """Give an encoder of the decoder's width its token embeddings, at the encoder's own scale."""
    source = cast(nn.Embedding, model.get_input_embeddings()).weight
    target = cast(nn.Embedding, model.encoder.get_input_embeddings()).weight
    if source.shape == target.shape:
        target.copy_(source * (target.std() / source.std()))


class Recipe:
    """Runs the stages of one pre-training, each from where it was left.

    Args:
        config: The whole config.
        tokenizer: Of the decoder.
        train: Training documents, tokenized.
        validation: Held-out documents, tokenized.
        folder: Of the run; each stage has a checkpoint in it.
        writer: TensorBoard.
        show: Progress bar.
    """

    def __init__(
        self,
        config: PretrainConfig,
        tokenizer: PreTrainedTokenizerFast,
        *,
        train: TokenizedCorpus,
        validation: TokenizedCorpus,
        folder: Path,
        writer: SummaryWriter,
        show: Progress,
    ) -> None:
        self._config = config
        self._train = train
        self._validation = validation
        self._folder = folder
        self._writer = writer
        self._show = show
        torch.manual_seed(config.seed)
        self.model = build_model(config.model, tokenizer)

    def run(self) -> RefragForCausalLM:
        """Run all stages in order and return the model, in evaluation mode."""
        model = self.model
        self._run("language_modelling", [model.decoder], self._mixture)
        if not (self._folder / "reconstruction").exists():
            start_encoder(model)
        self._run("reconstruction", [model.encoder, model.projector], self._reconstruction)
        self._run("continual", [model], self._mixture)
        return model.eval()

    def trained_positions(self) -> dict[str, int]:
        """Return the decoder positions that each stage was trained on so far."""
        checkpoints = {name: Checkpoint(self._folder / name) for name in STAGES}
        return {
            name: int(checkpoint.progress()["tokens"])
            for name, checkpoint in checkpoints.items()
            if checkpoint.exists()
        }

    def _run(
        self,
        name: str,
        trained: list[nn.Module],
        batches_of: Callable[[Any, int], Callable[[int, float], Batch]],
    ) -> None:
        stage: StageSection = getattr(self._config, name)
        if not stage.steps:
            return
        model, config = self.model, self._config
        model.requires_grad_(False)
        for module in trained:
            module.requires_grad_(True)
        optimizers = build_optimizers(
            trained,
            name=cast(Any, stage.optimizer.value),
            learning_rate=stage.learning_rate,
            muon_learning_rate=stage.muon_learning_rate,
            weight_decay=config.weight_decay,
            betas=(config.betas[0], config.betas[1]),
        )
        validation = Validation(
            self._validation,
            chunk_size=config.model.chunk_size,
            count=config.validation_windows,
            with_chunks=name != "language_modelling",
            bfloat16=config.bfloat16,
        )
        run_stage(
            model,
            optimizers,
            batches_of(stage, config.seed * len(STAGES) + STAGES.index(name)),
            mixed_loss,
            settings=StageSettings(
                name=name,
                steps=stage.steps,
                warmup=stage.warmup,
                final_learning_rate=stage.final_learning_rate,
                max_gradient_norm=config.max_gradient_norm,
                log_every=config.log_every,
                save_every=config.save_every,
                validate_every=config.validate_every,
                bfloat16=config.bfloat16,
            ),
            folder=self._folder / name,
            writer=self._writer,
            show=self._show,
            validate=lambda: validation(model),
        )

    def _mixture(self, stage: StageSection, seed: int) -> MixtureBatches:
        low, high = stage.expanded_fraction
        return MixtureBatches(
            [self._part(number, part) for number, part in enumerate(stage.parts)],
            batch_tokens=stage.batch_tokens,
            seed=seed,
            expanded_fraction=(low, high),
        )

    def _part(self, number: int, section: PartSection) -> Part:
        keys = {str(key): value for key, value in section.windows.items()}
        kind = (
            _KINDS["contiguous"] if section.kind == "reconstruction" else _KINDS.get(section.kind)
        )
        if kind is None:
            raise UserError(
                f"kind={section.kind} in the mixture: choose one of reconstruction, "
                f"{', '.join(_KINDS)}."
            )
        if section.kind == "reconstruction":
            keys["output_length"] = 1
        source = kind(
            self._corpus(section.domains),
            chunk_size=self._config.model.chunk_size,
            count=INDEFINITE,
            with_texts=False,
            seed=self._config.seed + 1000 * (number + 1),
            **keys,
        )
        return Part(
            name=f"{section.kind}-{number}",
            source=source,
            weight=section.weight,
            expansion=cast(Any, section.expansion.value),
            context_weight=section.context_weight,
            reconstructs=section.kind == "reconstruction",
        )

    def _corpus(self, domains: list[str] | None) -> TokenizedCorpus:
        if domains is None:
            return self._train
        missing = set(domains) - set(self._train.domains)
        if missing:
            raise UserError(
                f"domains={list(domains)} in the mixture: no text of {', '.join(missing)}. "
                f"Domains: {', '.join(self._train.domains)}."
            )
        return self._train.of_domains(domains)

    def _reconstruction(self, stage: ReconstructionSection, seed: int) -> ReconstructionBatches:
        curriculum = Curriculum(stage.max_chunks, stages=stage.curriculum_stages)
        chunk_size = self._config.model.chunk_size
        sources = [
            ContiguousWindows(
                self._train,
                chunk_size=chunk_size,
                context_length=size * chunk_size,
                output_length=1,
                count=INDEFINITE,
                with_texts=False,
                seed=seed,
            )
            for size in curriculum.sizes
        ]
        return ReconstructionBatches(
            sources, curriculum=curriculum, batch_tokens=stage.batch_tokens, seed=seed
        )
