import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from refrag_rl.errors import UserError
from refrag_rl.modeling import scoring
from refrag_rl.modeling.scoring import ScoringHead
from tests.tiny_models import DECODERS, DECODERS_WITH_MORE_HEAD, VOCABULARY, tiny_decoder


def score(decoder, ids, scored):
    head = ScoringHead(decoder)
    with torch.no_grad():
        states = head.states(decoder.get_input_embeddings()(ids), scored)
        return head.log_likelihood(states, ids[:, 1:][scored[:, 1:]])


def random_ids(batch=3, length=12, seed=0):
    return torch.randint(0, VOCABULARY, (batch, length), generator=torch.manual_seed(seed))


@pytest.mark.parametrize("family", DECODERS + DECODERS_WITH_MORE_HEAD)
def test_scores_are_those_of_the_whole_decoder(family):
    decoder = tiny_decoder(family)
    ids = random_ids()
    scored = torch.rand(ids.shape, generator=torch.manual_seed(1)) < 0.4
    with torch.no_grad():
        log_softmax = decoder(ids).logits.float().log_softmax(-1)
    scored[:, 0] = False
    expected = [log_softmax[row, t - 1, ids[row, t]] for row, t in scored.nonzero().tolist()]
    assert torch.allclose(score(decoder, ids, scored), torch.stack(expected), atol=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # PyTorch warns of its own code
def test_a_compiled_head_that_does_more_scores_alike():
    head, ids = ScoringHead(tiny_decoder("gemma2")), random_ids()
    scored = torch.rand(ids.shape, generator=torch.manual_seed(1)) < 0.4
    scored[:, 0] = False
    inputs = head.decoder.get_input_embeddings()(ids)
    with torch.no_grad():
        plain, compiled = (
            each.log_likelihood(each.states(inputs, scored), ids[scored])
            for each in (head, head.compiled())
        )
    assert torch.allclose(compiled, plain, atol=1e-4)


@pytest.mark.parametrize("family", DECODERS)
def test_a_linear_head_is_found_plain(family):
    assert ScoringHead(tiny_decoder(family)).is_plain


@pytest.mark.parametrize("family", DECODERS_WITH_MORE_HEAD)
def test_a_head_that_does_more_is_found_out_even_on_the_smallest_logits(family):
    decoder = tiny_decoder(family, initializer_range=1e-4)
    assert not ScoringHead(decoder).is_plain


def test_the_probe_leaves_the_decoder_as_it_was():
    decoder = tiny_decoder("llama").train()
    decoder.model.layers[0].eval()
    ids = random_ids()
    before = decoder(ids).logits
    ScoringHead(decoder)
    assert torch.equal(decoder(ids).logits, before)
    assert decoder.training and not decoder.model.layers[0].training


def test_position_0_is_never_scored():
    ids = random_ids()
    everything = torch.ones_like(ids, dtype=torch.bool)
    assert score(tiny_decoder("gpt2"), ids, everything).shape == (3 * 11,)


def test_slices_change_no_score(monkeypatch):
    decoder, ids = tiny_decoder("llama"), random_ids()
    everything = torch.ones_like(ids, dtype=torch.bool)
    whole = score(decoder, ids, everything)
    monkeypatch.setattr(scoring, "_LOGITS_PER_SLICE", 5 * VOCABULARY)
    assert torch.allclose(score(decoder, ids, everything), whole, atol=1e-6)


def test_nothing_to_score_gives_no_scores():
    ids = random_ids()
    assert score(tiny_decoder("llama"), ids, torch.zeros_like(ids, dtype=torch.bool)).shape == (0,)


def test_a_decoder_that_reads_ahead_is_refused():
    config = AutoConfig.for_model(
        "bert",
        vocab_size=VOCABULARY,
        hidden_size=24,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        initializer_range=0.5,
    )
    with pytest.raises(UserError, match="not causal"):
        ScoringHead(AutoModelForCausalLM.from_config(config))


def test_a_product_in_bfloat16_costs_little_where_the_token_is_likely():
    decoder = tiny_decoder("llama")
    weight = decoder.get_output_embeddings().weight
    generator = torch.manual_seed(2)
    with torch.no_grad():
        # Logits of about 100, of which bfloat16 keeps no digit after the point.
        weight.copy_((10 * torch.randn(weight.shape, generator=generator)).bfloat16())
    states = torch.randn(500, weight.shape[1], generator=generator).bfloat16().float()
    states *= 4
    head = ScoringHead(decoder)
    with torch.no_grad():
        exact = head.logits(states).log_softmax(-1)
        tokens = exact.argmax(-1)
        tokens[::2] = torch.randint(VOCABULARY, (250,), generator=generator)
        exact = exact.gather(1, tokens[:, None]).squeeze(1)
        found = head.log_likelihood(states, tokens, torch.bfloat16)
        plain = states.bfloat16() @ weight.T.bfloat16()
    plain = plain.float().log_softmax(-1).gather(1, tokens[:, None]).squeeze(1)
    assert found.dtype == torch.float32
    # Relative to what the token lacks, but for a rounding of the logit taken from all of them.
    assert ((found - exact).abs() <= 2**-7 * exact.abs() + 0.01).all()
    likely = exact > -3
    assert likely.sum() > 100
    assert (plain - exact)[likely].abs().max() > 10 * (found - exact)[likely].abs().max()


def test_other_heads_are_scored_in_the_type_of_their_weights():
    for family in DECODERS_WITH_MORE_HEAD:
        head, ids = ScoringHead(tiny_decoder(family)), random_ids()
        with torch.no_grad():
            embeddings = head.decoder.get_input_embeddings()(ids)
            states = head.states(embeddings, torch.ones_like(ids, dtype=torch.bool))
            given = states, ids[:, 1:].flatten()
            assert torch.equal(
                head.log_likelihood(*given, torch.bfloat16), head.log_likelihood(*given)
            )
