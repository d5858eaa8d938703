import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from refrag_rl.errors import UserError
from refrag_rl.modeling import RefragConfig, RefragForCausalLM
from tests.tiny_models import (
    CHUNK_SIZE,
    DECODERS,
    ENCODERS,
    VOCABULARY,
    save_tiny_pair,
    tiny_decoder,
    tiny_encoder,
    tiny_refrag,
)


def random_inputs(seed=0, batch=3, num_chunks=5, prompt=4, output=6):
    generator = torch.Generator().manual_seed(seed)

    def ids(*shape):
        return torch.randint(3, VOCABULARY, shape, generator=generator)

    context_ids = ids(batch, num_chunks, CHUNK_SIZE)
    return {
        "context_ids": context_ids,
        "chunk_mask": torch.arange(num_chunks) < torch.tensor([[5], [3], [4]]),
        "expanded": torch.rand(batch, num_chunks, generator=generator) < 0.5,
        "prompt_ids": ids(batch, prompt),
        "output_ids": ids(batch, output),
        "encoder_input_ids": context_ids,
        "encoder_attention_mask": torch.ones_like(context_ids),
    }


def logits(model, **changes):
    with torch.inference_mode():
        return model(**{**random_inputs(), **changes}).logits


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("decoder", DECODERS)
def test_a_pair_on_disk_becomes_a_model_that_survives_saving(tmp_path, decoder, encoder):
    encoder_folder, decoder_folder = save_tiny_pair(tmp_path, decoder, encoder)
    model = RefragForCausalLM.from_encoder_decoder(encoder_folder, decoder_folder, CHUNK_SIZE)
    assert not model.training
    for name, weight in tiny_decoder(decoder).state_dict().items():
        assert torch.equal(model.decoder.state_dict()[name], weight), "joining changed a weight"
    saved_encoder = tiny_encoder(encoder).state_dict()
    for name, weight in model.encoder.state_dict().items():
        assert torch.equal(saved_encoder[name], weight), "joining changed a weight"

    assert not any("pooler" in name for name in model.state_dict()), "never read, never saved"

    model.save_pretrained(tmp_path / "refrag")
    assert (tmp_path / "refrag" / "model.safetensors").is_file()
    for loaded in (
        RefragForCausalLM.from_pretrained(tmp_path / "refrag"),
        AutoModelForCausalLM.from_pretrained(tmp_path / "refrag"),
    ):
        assert isinstance(loaded, RefragForCausalLM)
        assert loaded.state_dict().keys() == model.state_dict().keys()
        assert torch.equal(logits(loaded), logits(model))


def test_the_configuration_survives_saving(tmp_path):
    model = RefragForCausalLM.from_encoder_decoder(
        tiny_encoder("bert"),
        tiny_decoder("llama"),
        7,
        encoder_pooling="mean",
        shared_tokenizer=True,
        projector_hidden_size=20,
        bos_token_id=5,
        cls_token_id=6,
    )
    model.config.save_pretrained(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(config, RefragConfig)
    assert (config.chunk_size, config.encoder_pooling, config.shared_tokenizer) == (7, "mean", True)
    assert (config.bos_token_id, config.chunk_start_token_id) == (5, 6)
    assert model.projector.up.out_features == config.projector_hidden_size == 20
    assert config.encoder.to_dict() == model.encoder.config.to_dict()
    assert config.decoder.to_dict() == model.decoder.config.to_dict()


@pytest.mark.parametrize("decoder", ["llama", "qwen2", "gpt2", "lfm2"])
@pytest.mark.parametrize("tied", [True, False])
def test_tied_embeddings_stay_tied_and_untied_ones_untied(tmp_path, decoder, tied):
    model = RefragForCausalLM.from_encoder_decoder(
        tiny_encoder("roberta"), tiny_decoder(decoder, tie_word_embeddings=tied), CHUNK_SIZE
    )
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(1.5)
    model.save_pretrained(tmp_path)
    loaded = RefragForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(logits(loaded), logits(model))
    with torch.no_grad():
        loaded.get_input_embeddings().weight.add_(1)
    moved = not torch.equal(
        loaded.get_output_embeddings().weight, model.get_output_embeddings().weight
    )
    assert moved == tied


def test_the_projector_has_the_paper_s_shape():
    model = tiny_refrag()
    assert model.projector.up.weight.shape == (32, 24)
    assert model.projector.down.weight.shape == (32, 32)
    assert model.project(torch.randn(2, 3, 24)).shape == (2, 3, 32)


@pytest.mark.parametrize("decoder", DECODERS)
def test_padding_changes_no_row(decoder):
    model = tiny_refrag(decoder)
    inputs = random_inputs()
    output_mask = torch.arange(6) < torch.tensor([[6], [2], [5]])
    prompt_mask = torch.arange(4) < torch.tensor([[0], [4], [2]])
    together = logits(model, output_mask=output_mask, prompt_mask=prompt_mask)
    for row in range(3):
        alone = {name: value[row : row + 1] for name, value in inputs.items()}
        alone["prompt_ids"] = alone["prompt_ids"][:, prompt_mask[row]]
        alone["output_ids"] = alone["output_ids"][:, output_mask[row]]
        with torch.inference_mode():
            expected = model(**alone).logits[0]
        assert torch.allclose(together[row, output_mask[row]], expected, atol=1e-4)
        assert (together[row, ~output_mask[row]] == 0).all()


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_a_chunk_embedding_depends_on_its_own_tokens_alone(encoder, pooling):
    model = tiny_refrag(encoder=encoder)
    model.config.encoder_pooling = pooling
    ids = random_inputs()["context_ids"][0]
    with torch.inference_mode():
        together = model.encode_chunks(
            torch.nn.functional.pad(ids, (0, 3), value=9),
            torch.nn.functional.pad(torch.ones_like(ids), (0, 3)),
        )
        alone = [model.encode_chunks(row[None], torch.ones(1, CHUNK_SIZE)) for row in ids]
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)


def test_a_token_with_the_id_of_roberta_s_padding_is_a_token():
    model = tiny_refrag()
    padding = model.encoder.config.pad_token_id
    ids = torch.tensor([[7, padding, 8, 9]])
    positions = model.encoder.embeddings.padding_idx + 1 + torch.arange(4)
    mask = torch.ones_like(ids)
    with torch.inference_mode():
        expected = model.encoder(ids, attention_mask=mask, position_ids=positions[None])
        found = model.encode_chunks(ids, mask)
    assert torch.allclose(found, expected.last_hidden_state[:, 0], atol=1e-6)


def test_embed_context_leaves_padding_chunks_zero_and_encodes_the_others():
    model, inputs = tiny_refrag(), random_inputs()
    ids, mask, chunk_mask = (
        inputs["context_ids"],
        inputs["encoder_attention_mask"],
        inputs["chunk_mask"],
    )
    with torch.inference_mode():
        context = model.embed_context(ids, mask, chunk_mask)
        chunk = model.encode_chunks(ids[1, 2][None], mask[1, 2][None])
    assert (context[~chunk_mask] == 0).all()
    assert torch.allclose(context[1, 2], chunk[0], atol=1e-5)


def test_the_loss_is_the_mean_over_output_tokens_and_trains_all_three_parts():
    model = tiny_refrag().train()
    inputs = random_inputs()
    result = model(**inputs)
    by_hand = result.logits.log_softmax(-1).gather(-1, inputs["output_ids"][..., None])
    assert torch.allclose(result.loss, -by_hand.mean(), atol=1e-5)
    result.loss.backward()
    for part in (model.encoder, model.projector, model.decoder):
        gradients = [weight.grad for weight in part.parameters() if weight.grad is not None]
        assert any(gradient.abs().sum() > 0 for gradient in gradients)


def test_log_likelihood_scores_expanded_context_where_it_is_asked_to():
    model, inputs = tiny_refrag(), random_inputs()
    with torch.inference_mode():
        chunks = model.embed_context(
            inputs["context_ids"], inputs["encoder_attention_mask"], inputs["chunk_mask"]
        )
        layout = model.lay_out(
            *(inputs[name] for name in ("context_ids", "chunk_mask", "expanded", "prompt_ids")),
            inputs["output_ids"],
        )
        every_token = model.log_likelihood(layout, chunks, layout.token_mask)
        output = model.log_likelihood(layout, chunks)
    of_output = layout.output_mask[layout.token_mask]
    assert torch.allclose(every_token[of_output], output, atol=1e-5)
    assert len(every_token) > len(output)


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ({"bos_token_id": 9, "eos_token_id": 8}, 9),
        ({"bos_token_id": None, "eos_token_id": 8}, 8),
        ({"bos_token_id": None, "eos_token_id": [7, 8]}, 7),
        ({"bos_token_id": VOCABULARY, "eos_token_id": 8}, 8),
        ({"bos_token_id": None, "eos_token_id": None}, 0),
    ],
)
def test_sequences_start_with_bos_or_else_eos(tokens, expected, caplog):
    decoder = tiny_decoder("llama", **tokens)
    model = RefragForCausalLM.from_encoder_decoder(tiny_encoder("bert"), decoder, CHUNK_SIZE)
    assert model.config.bos_token_id == expected
    announced = any("sequences start with token 0" in message for message in caplog.messages)
    assert announced == (expected == 0)


@pytest.mark.parametrize(
    ("encoder", "options", "message"),
    [
        (tiny_encoder("bert", vocab_size=VOCABULARY - 1), {}, "same vocabulary"),
        (tiny_encoder("roberta", max_position_embeddings=6), {}, "chunk_size=3 or less"),
        (tiny_encoder("bert"), {"chunk_size": 0}, "chunk_size is 0"),
        (tiny_encoder("bert"), {"encoder_pooling": "last"}, "choose from first, mean"),
    ],
)
def test_an_encoder_that_cannot_read_chunks_is_refused(encoder, options, message):
    arguments = {"chunk_size": CHUNK_SIZE, "shared_tokenizer": True, **options}
    with pytest.raises(UserError, match=message):
        RefragForCausalLM.from_encoder_decoder(encoder, tiny_decoder("llama"), **arguments)


def test_an_encoder_that_does_not_read_ahead_is_pooled_over_the_chunk():
    decoder = tiny_decoder("llama")
    encoder = tiny_decoder("gpt2").base_model
    with pytest.raises(UserError, match=r"\(gpt2\) does not read ahead: [^.]*\. Give .*=mean"):
        RefragForCausalLM.from_encoder_decoder(encoder, decoder, CHUNK_SIZE, shared_tokenizer=True)
    model = RefragForCausalLM.from_encoder_decoder(
        encoder, decoder, CHUNK_SIZE, shared_tokenizer=True, encoder_pooling="mean"
    )
    ids = random_inputs()["context_ids"][0]
    ids[:, 0] = 7
    embeddings = model.encode_chunks(ids, torch.ones_like(ids))
    assert torch.pdist(embeddings).min() > 1e-3


def test_the_longest_chunk_that_roberta_can_read_is_read():
    encoder = tiny_encoder("roberta", max_position_embeddings=6)
    model = RefragForCausalLM.from_encoder_decoder(
        encoder, tiny_decoder("llama"), 3, shared_tokenizer=True
    )
    assert model.max_encoder_tokens == 4
    ids = torch.tensor([[1, 5, 6, 7]])
    assert model.encode_chunks(ids, torch.ones_like(ids)).shape == (1, 24)


@pytest.mark.parametrize("given", [{}, {"chunk_embeddings": torch.zeros(3, 5, 24)}])
def test_chunks_come_from_one_source(given):
    inputs = random_inputs()
    if not given:
        del inputs["encoder_input_ids"], inputs["encoder_attention_mask"]
    with pytest.raises(ValueError, match="chunk_embeddings"):
        tiny_refrag()(**inputs, **given)
