"""The configuration of a REFRAG model: an encoder, a decoder, and how chunks pass between them."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, get_args

from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from refrag_rl.errors import UserError

EncoderPooling = Literal["first", "mean"]


class RefragConfig(PreTrainedConfig):
    """Configuration of ``RefragForCausalLM``.

    Attributes:
        encoder: Configuration of any ``AutoModel``, or its dictionary.
        decoder: Configuration of any ``AutoModelForCausalLM``, or its dictionary.
        chunk_size: ``k``, decoder tokens per chunk.
        encoder_pooling: ``"first"`` takes the encoder's state at its first token as the chunk
            embedding ``c_i`` (as the paper's RoBERTa does), ``"mean"`` the mean over the chunk.
        projector_hidden_size: Hidden size of the projector ``phi``; ``None`` makes it the size of
            the decoder's token embeddings, as in the paper.
        shared_tokenizer: Whether the encoder reads the decoder's token ids, so that no text has to
            be tokenized twice.
        bos_token_id: Decoder token that every sequence starts with.
        cls_token_id: Token that a chunk starts with for the encoder, where the tokenizer is shared;
            ``None`` makes it ``bos_token_id``.
        initializer_range: Standard deviation of the projector's initial weights.

    Raises:
        UserError: ``chunk_size`` is below 1, or ``encoder_pooling`` is none of those above.
    """

    model_type = "refrag"
    sub_configs_defaults: ClassVar[dict[str, Any]] = {
        "encoder": SubConfigSpec(config_class=AutoConfig, model_type="roberta"),
        "decoder": SubConfigSpec(config_class=AutoConfig, model_type="llama"),
    }

    encoder: dict[str, Any] | PreTrainedConfig | None = None
    decoder: dict[str, Any] | PreTrainedConfig | None = None
    chunk_size: int = 16
    encoder_pooling: str = "first"
    projector_hidden_size: int | None = None
    shared_tokenizer: bool = False
    bos_token_id: int = 1
    cls_token_id: int | None = None
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs: Any) -> None:
        """Complete the two inner configurations and check the values."""
        super().__post_init__(**kwargs)
        if self.chunk_size < 1:
            raise UserError(f"chunk_size is {self.chunk_size}: give a number of tokens, 1 or more.")
        if self.encoder_pooling not in get_args(EncoderPooling):
            raise UserError(
                f"encoder_pooling is {self.encoder_pooling!r}: "
                f"choose from {', '.join(get_args(EncoderPooling))}."
            )

    @property
    def chunk_start_token_id(self) -> int:
        """Token that the encoder reads before a chunk's tokens, where the tokenizer is shared."""
        return self.bos_token_id if self.cls_token_id is None else self.cls_token_id
