"""From the config of a stage to its batches: documents, kinds of windows, sizes, seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from inspect import signature
from itertools import chain
from typing import Any, cast

from refrag_rl.corpora import docs, files
from refrag_rl.corpora.collection import collect, select_split
from refrag_rl.corpora.contiguous import ContiguousWindows
from refrag_rl.corpora.documents import Document, Split, split_of
from refrag_rl.corpora.mixed import KINDS, seed_of_part
from refrag_rl.corpora.tokenized import TokenizedCorpus
from refrag_rl.corpora.windows import WindowSource
from refrag_rl.errors import UserError
from refrag_rl.pretraining.batches import (
    INDEFINITE,
    BatchSize,
    MixtureBatches,
    Part,
    ReconstructionBatches,
    Sizes,
)
from refrag_rl.pretraining.curriculum import Curriculum
from refrag_rl.pretraining.settings import (
    ContinualSection,
    DataSection,
    Expansion,
    FilesSplit,
    PartSection,
    ReconstructionSection,
    StageSection,
)


def load_documents(data: DataSection, split: Split, in_memory_mb: float) -> Sequence[Document]:
    """Read the training or the validation documents.

    Of ``data.files`` the split ``train`` is trained on, as runs of ``refrag_rl.train`` draw it, and
    where there are no ``data.validation_files`` its split ``validation`` validates;
    ``data.files_split=all`` trains on all of it.

    Args:
        data: Section of the config.
        split: ``train`` or ``validation``.
        in_memory_mb: Text that is kept in memory, MiB; more goes to a temporary file.

    Raises:
        UserError: There are none.
    """
    reads_all = data.files_split is FilesSplit.all
    key, paths, kept = "data.files", data.files, split
    if split == "validation" and (data.validation_files or reads_all):
        key, paths, kept = "data.validation_files", data.validation_files, "all"
    elif reads_all:
        kept = "all"
    from_files = (
        files.load(list(paths), text_field=data.text_field, id_field=data.id_field, key=key)
        if paths
        else iter(())
    )
    documents = collect(
        chain(
            select_split(docs.load(), split) if data.docs else [],
            (each for each in from_files if kept in ("all", split_of(each.id))),
        ),
        in_memory_mb,
    )
    if documents:
        return documents
    if paths and kept == "train":
        raise UserError(
            f"{key}: none of its documents is of the split train. Give more of them, or train on "
            "all of them:\ndata.files_split=all"
        )
    given = "files" if split == "train" else "validation_files"
    raise UserError(
        f"data: there are no {split} documents. Set data.docs=true or give data.{given}=[...]."
    )


class StageBatches:
    """Makes the batches of the stages.

    Args:
        train: Training documents.
        chunk_size: ``k``.
        seed: Of the run.
        with_texts: Windows carry their chunks' texts, for an encoder with a tokenizer of its own.
    """

    def __init__(
        self, train: TokenizedCorpus, *, chunk_size: int, seed: int, with_texts: bool
    ) -> None:
        self._train = train
        self._chunk_size = chunk_size
        self._seed = seed
        self._with_texts = with_texts

    def mixture(self, stage: StageSection, seed: int) -> MixtureBatches:
        """Return the batches of a stage on a mixture of windows.

        Raises:
            UserError: A part or the size of a batch cannot be used.
        """
        low, high = stage.expanded_fraction
        return MixtureBatches(
            [self._part(number, part, stage) for number, part in enumerate(stage.parts)],
            size=batch_size(stage),
            seed=seed,
            expanded_fraction=(low, high),
            expanded_runs=stage.expanded_runs,
        )

    def _part(self, number: int, section: PartSection, stage: StageSection) -> Part:
        keys = {str(key): value for key, value in section.windows.items()}
        fixed = {"corpus", "chunk_size", "count", "seed", "with_texts"} & set(keys)
        if fixed:
            raise UserError(
                f"windows of a part of the mixture: {', '.join(sorted(fixed))} cannot be given; "
                "they follow from the rest of the config"
            )
        kind = KINDS["contiguous"] if section.kind == "reconstruction" else KINDS.get(section.kind)
        if kind is None:
            raise UserError(
                f"kind={section.kind} in the mixture: choose one of reconstruction, "
                f"{', '.join(KINDS)}."
            )
        if section.kind == "reconstruction":
            keys["output_length"] = 1
        make = partial(
            kind,
            self._corpus(number, section.domains),
            chunk_size=self._chunk_size,
            count=INDEFINITE,
            with_texts=self._with_texts,
            seed=seed_of_part(self._seed, number + 1),
        )
        try:
            signature(kind).bind(self._train, chunk_size=self._chunk_size, **keys)
        except TypeError as error:
            raise UserError(f"windows of a {section.kind} part of the mixture: {error}") from error
        source = make(**keys)
        sizes = None
        grows = section.kind == "contiguous"  # others have passages that cannot shrink to a chunk
        if grows and isinstance(stage, ContinualSection) and stage.curriculum_stages != 1:
            sizes = _growing(make, keys, source, section, stage)
        return Part(
            name=f"{section.kind}-{number}",
            source=source,
            weight=section.weight,
            expansion=cast(Any, section.expansion.value),
            context_weight=section.context_weight,
            distillation=_distillation(section),
            reconstructs=section.kind == "reconstruction",
            sizes=sizes,
        )

    def _corpus(self, number: int, domains: list[str] | None) -> TokenizedCorpus:
        if domains is None:
            return self._train
        missing = set(domains) - set(self._train.domains)
        if missing:
            raise UserError(
                f"parts.{number}.domains={list(domains)} of the mixture: no text of "
                f"{', '.join(missing)}. Domains: {', '.join(self._train.domains)}.\n"
                f"Give some of these, or null for all: STAGE.parts.{number}.domains=null"
            )
        return self._train.of_domains(domains)

    def reconstruction(self, stage: ReconstructionSection, seed: int) -> ReconstructionBatches:
        """Return the batches of the stage that reconstructs contexts of growing size.

        Raises:
            UserError: The size of a batch or of the curriculum cannot be used.
        """
        curriculum = Curriculum(
            stage.max_chunks, stages=stage.curriculum_stages, min_chunks=stage.min_chunks
        )
        chunk_size = self._chunk_size
        sources = [
            ContiguousWindows(
                self._train,
                chunk_size=chunk_size,
                context_length=size * chunk_size,
                output_length=1,
                count=INDEFINITE,
                with_texts=self._with_texts,
                seed=seed,
            )
            for size in curriculum.sizes
        ]
        return ReconstructionBatches(Sizes(sources, curriculum), size=batch_size(stage), seed=seed)


def _distillation(section: PartSection) -> float:
    """Return a part's ``distillation``.

    Raises:
        UserError: It is no share, or the part leaves nothing to learn by it.
    """
    share = section.distillation
    if not 0 <= share <= 1:
        raise UserError(f"distillation={share} of kind={section.kind}: give a share from 0 to 1.")
    teaches = section.kind != "reconstruction" and section.expansion is not Expansion.all
    if share and not teaches:
        raise UserError(
            f"distillation={share} of kind={section.kind}, expansion={section.expansion.value}: "
            "the decoder\nfollows its own reading of all tokens there. Give 0, or another kind."
        )
    return share


def batch_size(stage: StageSection) -> BatchSize:
    """Return how much an optimizer step of a stage reads.

    Raises:
        UserError: Both or none of ``batch_tokens`` and ``batch_windows`` are given, or a number is
            below 1.
    """
    given = [n for n in (stage.batch_tokens, stage.batch_windows) if n is not None]
    if len(given) != 1 or given[0] < 1 or stage.accumulate < 1:
        raise UserError(
            f"batch_tokens={stage.batch_tokens} batch_windows={stage.batch_windows} "
            f"accumulate={stage.accumulate}: give one of batch_tokens and batch_windows, 1 or "
            "more, and null for the other; accumulate must be 1 or more."
        )
    return BatchSize(stage.batch_tokens, stage.batch_windows)


def _growing(
    make: Callable[..., WindowSource],
    keys: dict[str, Any],
    longest: WindowSource,
    section: PartSection,
    stage: ContinualSection,
) -> Sizes:
    """Return contiguous windows with contexts of 1, 2, 4, ... ``L`` chunks (paper, B.3)."""
    curriculum = Curriculum(longest.num_chunks, stages=stage.curriculum_stages)
    chunk_size = longest.chunk_size
    shorter = [
        make(**{**keys, "context_length": size * chunk_size}) for size in curriculum.sizes[:-1]
    ]
    window = longest[0]
    fixed = 1 + len(window.prompt_ids) + len(window.output_ids)
    fraction = {"all": 1.0, "none": 0.0, "mixed": sum(stage.expanded_fraction) / 2}
    a_chunk = 1 + fraction[section.expansion.value] * (chunk_size - 1)
    lengths = [fixed + size * a_chunk for size in curriculum.sizes]
    return Sizes([*shorter, longest], curriculum, lengths)
