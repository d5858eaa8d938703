"""The REFRAG model: encoder, projector and decoder as one Hugging Face model.

1. The encoder turns chunk ``C_i`` of ``k`` decoder tokens into one chunk embedding ``c_i``
   (arXiv 2509.01092, section 2); chunks do not see each other or the prompt.
2. The projector ``phi``, two layers, turns ``c_i`` into ``e_i^cnk`` of the size of a decoder token
   embedding.
3. The decoder, unchanged, reads a mixture of projected chunk embeddings and token embeddings.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModel, AutoModelForCausalLM, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from refrag_rl.modeling import chunk_encoder
from refrag_rl.modeling.config import EncoderPooling, RefragConfig
from refrag_rl.modeling.mixing import Layout, PromptPosition, lay_out, mix
from refrag_rl.modeling.parts import ModelOrPath, first_token, load_part
from refrag_rl.modeling.projector import Projector
from refrag_rl.modeling.scoring import ScoringHead


class RefragForCausalLM(PreTrainedModel):
    """Any ``AutoModel`` encoder, a projector, and any ``AutoModelForCausalLM`` decoder.

    Args:
        config: Describes all three parts.
        encoder: Taken as it is, its configuration becoming ``config.encoder``; ``None``: random.
        decoder: Taken as it is, its configuration becoming ``config.decoder``; ``None``: random.

    Attributes:
        encoder: Reads one chunk at a time.
        projector: ``phi``.
        decoder: Reads the mixed sequence.

    Raises:
        UserError: The encoder cannot read a chunk: it is an encoder-decoder, or its positions or
            (with a shared tokenizer) its vocabulary are too few.
    """

    config: RefragConfig
    config_class = RefragConfig
    main_input_name = "context_ids"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True

    def __init__(
        self,
        config: RefragConfig,
        encoder: PreTrainedModel | None = None,
        decoder: PreTrainedModel | None = None,
    ) -> None:
        super().__init__(config)
        self.encoder = _from_config(AutoModel, config.encoder) if encoder is None else encoder
        self.decoder = (
            _from_config(AutoModelForCausalLM, config.decoder) if decoder is None else decoder
        )
        # One configuration object each, so that what is saved is what is used.
        config.encoder, config.decoder = self.encoder.config, self.decoder.config
        vocabulary, token_embedding_size = chunk_encoder.token_embeddings(self.decoder).weight.shape
        chunk_encoder.drop_pooler(self.encoder)
        chunk_encoder.require_reads_chunks(
            self.encoder, config.chunk_size, vocabulary if config.shared_tokenizer else None
        )
        self.projector = Projector(
            self.embedding_size,
            config.projector_hidden_size or token_embedding_size,
            token_embedding_size,
        )
        self._head: ScoringHead | None = None
        self.post_init()

    @classmethod
    def from_encoder_decoder(
        cls,
        encoder: ModelOrPath,
        decoder: ModelOrPath,
        chunk_size: int,
        *,
        encoder_pooling: EncoderPooling = "first",
        shared_tokenizer: bool = False,
        projector_hidden_size: int | None = None,
        bos_token_id: int | None = None,
        cls_token_id: int | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> RefragForCausalLM:
        """Join an encoder and a decoder by a new, random projector.

        Args:
            encoder: Folder or hub name of any ``AutoModel``, or a loaded model.
            decoder: Folder or hub name of any ``AutoModelForCausalLM``, or a loaded model.
            chunk_size: ``k``, decoder tokens per chunk.
            encoder_pooling: As in ``RefragConfig``.
            shared_tokenizer: As in ``RefragConfig``.
            projector_hidden_size: As in ``RefragConfig``.
            bos_token_id: First token of every sequence; ``None`` takes the decoder's bos token, its
                eos token where it has none (Qwen2 was trained that way), or token 0 and a warning
                where it names neither.
            cls_token_id: As in ``RefragConfig``.
            dtype: Type of the weights.

        Returns:
            The model, in evaluation mode.

        Raises:
            UserError: The encoder cannot read a chunk, or the state that is pooled knows its first
                token only.
        """
        encoder = load_part(AutoModel, encoder, dtype)
        decoder = load_part(AutoModelForCausalLM, decoder, dtype)
        # Copies: a composite configuration writes into those that it is made of.
        config = RefragConfig(
            encoder=copy.deepcopy(encoder.config),
            decoder=copy.deepcopy(decoder.config),
            chunk_size=chunk_size,
            encoder_pooling=encoder_pooling,
            shared_tokenizer=shared_tokenizer,
            projector_hidden_size=projector_hidden_size,
            bos_token_id=first_token(decoder) if bos_token_id is None else bos_token_id,
            cls_token_id=cls_token_id,
            dtype=dtype,
        )
        model = cls(config, encoder=encoder, decoder=decoder)
        nn.Module.to(model, dtype).eval()
        chunk_encoder.require_pooling(model.encoder, encoder_pooling)
        return model

    @property
    def embedding_size(self) -> int:
        """Size of a chunk embedding ``c_i``, before projection."""
        return self.encoder.config.hidden_size

    @property
    def max_encoder_tokens(self) -> int | None:
        """Tokens that the encoder reads at once; ``None`` where it has no limit."""
        return chunk_encoder.max_tokens(self.encoder)

    @classmethod
    def is_custom_code(cls) -> bool:
        """Say that parts are to be loaded as transformers loads its own.

        Else a part that computes constants of its layers when it is made, as FalconH1 does, has
        none of them after loading.
        """
        return False

    @property
    def max_decoder_positions(self) -> int | None:
        """Positions that the decoder reads at once; ``None`` where it has no limit."""
        return chunk_encoder.position_limit(self.decoder)

    @property
    def head(self) -> ScoringHead:
        """Scores tokens with the decoder; probes it at first use.

        Raises:
            UserError: The decoder is not causal, or has no output layer.
        """
        if self._head is None or self._head.decoder is not self.decoder:
            self._head = ScoringHead(self.decoder)
        return self._head

    def get_input_embeddings(self) -> nn.Module:
        """Return the decoder's token embeddings."""
        return self.decoder.get_input_embeddings()

    def get_output_embeddings(self) -> nn.Module:
        """Return the decoder's output layer."""
        return self.decoder.get_output_embeddings()

    def encode_chunks(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the chunk embeddings ``c_i``, (N, d_enc).

        Args:
            input_ids: (N, t) int64, one chunk a row, in the encoder's vocabulary.
            attention_mask: (N, t), 1 for tokens and 0 for padding on the right.
        """
        return chunk_encoder.encode(
            self.encoder, self.config.encoder_pooling, input_ids, attention_mask
        )

    def project(self, chunk_embeddings: Tensor) -> Tensor:
        """Return the projected chunk embeddings ``e^cnk``, (..., d_enc) to (..., d_dec)."""
        return self.projector(chunk_embeddings)

    def lay_out(
        self,
        context_ids: Tensor,
        chunk_mask: Tensor,
        expanded: Tensor,
        prompt_ids: Tensor,
        output_ids: Tensor,
        *,
        prompt_position: PromptPosition | Sequence[PromptPosition] = "after",
        prompt_mask: Tensor | None = None,
        output_mask: Tensor | None = None,
    ) -> Layout:
        """Lay out mixed sequences behind this model's bos token; see ``mixing.lay_out``."""
        return lay_out(
            context_ids,
            chunk_mask,
            expanded,
            prompt_ids,
            output_ids,
            bos_token_id=self.config.bos_token_id,
            prompt_position=prompt_position,
            prompt_mask=prompt_mask,
            output_mask=output_mask,
        )

    def embed(self, layout: Layout, chunk_embeddings: Tensor) -> Tensor:
        """Return the decoder's ``inputs_embeds`` (B, T, d_dec) for a layout.

        Args:
            layout: Of ``B`` rows.
            chunk_embeddings: (B, L, d_enc), encoder output; projected here.
        """
        tokens = self.decoder.get_input_embeddings()(layout.token_ids)
        return mix(layout, self.project(chunk_embeddings), tokens)

    def log_likelihood(
        self, layout: Layout, chunk_embeddings: Tensor, scored: Tensor | None = None
    ) -> Tensor:
        """Return the log-likelihood of the scored tokens, (n,) float32, nats, row by row.

        Args:
            layout: Of ``B`` rows and ``T`` positions.
            chunk_embeddings: (B, L, d_enc), encoder output.
            scored: (B, T) bool, positions whose token is scored, such as ``layout.token_mask``;
                ``None``: ``layout.output_mask``. A position without a token must not be scored.
        """
        scored = layout.output_mask if scored is None else scored
        states = self.head.states(self.embed(layout, chunk_embeddings), scored)
        return self.head.log_likelihood(states, layout.token_ids[:, 1:][scored[:, 1:]])

    def forward(
        self,
        context_ids: Tensor,
        chunk_mask: Tensor,
        expanded: Tensor,
        prompt_ids: Tensor,
        output_ids: Tensor,
        *,
        chunk_embeddings: Tensor | None = None,
        encoder_input_ids: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        prompt_position: PromptPosition | Sequence[PromptPosition] = "after",
        prompt_mask: Tensor | None = None,
        output_mask: Tensor | None = None,
    ) -> CausalLMOutput:
        """Read mixed sequences and predict their output.

        Args:
            context_ids: (B, L, k) int64.
            chunk_mask: (B, L) bool, true for chunks that hold text.
            expanded: (B, L) bool, true for chunks read as tokens.
            prompt_ids: (B, q) int64.
            output_ids: (B, o) int64.
            chunk_embeddings: (B, L, d_enc) encoder output; or
            encoder_input_ids: (B, L, t) int64, from which they are made, with
            encoder_attention_mask: (B, L, t).
            prompt_position: Where the prompt stands.
            prompt_mask: (B, q) bool; ``None``: all.
            output_mask: (B, o) bool, padding on the right; ``None``: all.

        Returns:
            ``loss``, the log-perplexity of the output (nats per token, over all output tokens of
            the batch), and ``logits`` (B, o, V) float32 that predict ``output_ids``; zeros where
            ``output_mask`` is false.

        Raises:
            ValueError: Neither or both of chunk embeddings and encoder inputs are given.
        """
        if (chunk_embeddings is None) == (encoder_input_ids is None):
            raise ValueError("Give either chunk_embeddings or encoder_input_ids.")
        if chunk_embeddings is None:
            if encoder_input_ids is None or encoder_attention_mask is None:
                raise ValueError("encoder_input_ids needs encoder_attention_mask.")
            chunk_embeddings = self.embed_context(
                encoder_input_ids, encoder_attention_mask, chunk_mask
            )
        layout = self.lay_out(
            context_ids,
            chunk_mask,
            expanded,
            prompt_ids,
            output_ids,
            prompt_position=prompt_position,
            prompt_mask=prompt_mask,
            output_mask=output_mask,
        )
        scored = layout.output_mask
        states = self.head.states(self.embed(layout, chunk_embeddings), scored)
        token_logits = self.head.logits(states)
        loss = functional.cross_entropy(token_logits, layout.token_ids[scored])
        logits = token_logits.new_zeros(*output_ids.shape, token_logits.shape[-1])
        in_use = (
            torch.ones_like(output_ids, dtype=torch.bool) if output_mask is None else output_mask
        )
        logits[in_use.bool()] = token_logits
        return CausalLMOutput(loss=loss, logits=logits)

    def embed_context(
        self, input_ids: Tensor, attention_mask: Tensor, chunk_mask: Tensor
    ) -> Tensor:
        """Return chunk embeddings (B, L, d_enc), zeros in padding chunks.

        Args:
            input_ids: (B, L, t) int64, in the encoder's vocabulary.
            attention_mask: (B, L, t).
            chunk_mask: (B, L) bool.
        """
        chunk_mask = chunk_mask.bool()
        embeddings = self.encode_chunks(input_ids[chunk_mask], attention_mask[chunk_mask])
        context = embeddings.new_zeros(*chunk_mask.shape, self.embedding_size)
        return context.index_put((chunk_mask,), embeddings)


def _from_config(auto_class: Any, config: Any) -> PreTrainedModel:
    """Return a model of random weights; code that a config names is not run, nor asked about."""
    return auto_class.from_config(config, trust_remote_code=False)
