"""Costs: FLOPs as torch counts them, published parameter counts, memory by hand and as autograd keeps it."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM

from halobench.cost import DEVICES, Shape, Traffic, adapter_parameters, flops, gpu_hours, memory, shape_of
from halobench.published.sizes import model_config

FAMILIES = {
    "llama": {"intermediate_size": 688, "num_key_value_heads": 2},
    "gpt_neox": {"intermediate_size": 1024},
}
# 3 layers of width 8 with 2 of 4 key heads: 64 + 2 * 32 + 64 for attention, 3 * 8 * 16 for the MLP
HAND = Shape(
    parameters=2_000,
    body=3 * 576,
    head=100,
    layers=3,
    hidden=8,
    query=8,
    key=4,
    inner=16,
    gated=True,
    linears=(("q_proj", 8, 8), ("v_proj", 8, 4)),
)


def config(family, *, layers=3, hidden=256, vocabulary=100, **more):
    return AutoConfig.for_model(
        family,
        hidden_size=hidden,
        num_attention_heads=8,
        num_hidden_layers=layers,
        vocab_size=vocabulary,
        **(FAMILIES[family] | more),
    )


# as the model cards and the papers of the models count them
@pytest.mark.parametrize(
    ("path", "parameters"),
    [
        ("EleutherAI/pythia-1.4b", 1_414_647_808),
        ("EleutherAI/pythia-2.8b", 2_775_208_960),
        ("EleutherAI/pythia-6.9b", 6_857_302_016),
        ("EleutherAI/pythia-12b", 11_846_072_320),
        ("huggyllama/llama-7b", 6_738_415_616),
        ("huggyllama/llama-13b", 13_015_864_320),
        ("huggyllama/llama-30b", 32_528_943_616),
        ("mistralai/Mistral-7B-v0.1", 7_241_732_096),
        ("meta-llama/Meta-Llama-3-8B", 8_030_261_248),
        ("Qwen/Qwen2.5-3B-Instruct", 3_085_938_688),
        ("HuggingFaceTB/SmolLM2-135M", 134_515_008),
        ("HuggingFaceTB/SmolLM2-360M", 361_821_120),
        ("HuggingFaceTB/SmolLM2-1.7B", 1_711_376_384),
    ],
)
def test_published_shapes_have_the_published_number_of_parameters(path, parameters):
    values = dict(model_config(path))
    assert shape_of(AutoConfig.for_model(values.pop("model_type"), **values)).parameters == parameters


@pytest.mark.parametrize("family", FAMILIES)
def test_training_flops_are_those_that_torch_counts(family):
    settings = config(family)
    settings._attn_implementation = "eager"  # whose products the counter sees, all keys for every query
    tokens = 32
    with FlopCounterMode(display=False) as counter:
        model = AutoModelForCausalLM.from_config(settings)
        model(input_ids=torch.zeros(1, tokens, dtype=torch.long)).logits.sum().backward()
    everything = Traffic(tokens, tokens, tokens * tokens)
    assert flops(everything, shape_of(settings), gradient=True) == counter.get_total_flops()


def test_six_flops_per_weight_and_token_two_without_gradient_four_with_an_adapter():
    # 10 tokens, 4 of them scored, no attention: 2 * (1728 * 10 + 100 * 4) = 35,360 forward
    traffic = Traffic(10, 4, 0)
    assert flops(traffic, HAND, gradient=False) == 35_360
    assert flops(traffic, HAND, gradient=True) == 3 * 35_360
    # checkpointing computes the layers again: 2 * 1728 * 10
    assert flops(traffic, HAND, gradient=True, recomputes=True) == 3 * 35_360 + 34_560
    # frozen weights have no gradient; 50 weights of an adapter have
    assert flops(traffic, HAND, gradient=True, adapter=50) == 2 * 35_360 + 6 * 50 * 10


def test_attention_reads_every_earlier_token():
    # 5 keys are read in all, by queries and for values, 8 wide, in 3 layers: 4 * 3 * 8 * 5
    assert flops(Traffic(0, 0, 5), HAND, gradient=False) == 480


def test_a_prompt_goes_through_once_for_all_its_completions():
    # one prompt of 6, two completions of 4: 14 tokens; keys: 6^2 / 2, and 8 tokens read 6 + 4 / 2 each
    assert Traffic.of(1, 2, 6, 4) == Traffic(14, 8, 18 + 64)
    assert Traffic.of(2, 2, 6, 4) == Traffic(20, 8, 36 + 64)


def test_an_adapter_has_rank_times_inputs_and_outputs_in_every_layer():
    # 3 layers * rank 2 * (8 + 8 of q_proj), and (8 + 4) of v_proj
    assert adapter_parameters(HAND, 2, ("q_proj",)) == 96
    assert adapter_parameters(HAND, 2, "all-linear") == 96 + 72


def pythia():
    values = dict(model_config("EleutherAI/pythia-1.4b"))
    return shape_of(AutoConfig.for_model(values.pop("model_type"), **values))


def test_weights_gradients_and_moments_take_sixteen_bytes_a_parameter_in_float32():
    needed = memory(pythia(), precision="32-true", microbatch_tokens=1)
    assert needed.weights == needed.gradients == 4 * 1_414_647_808
    assert needed.optimizer == 8 * 1_414_647_808


def test_sharding_divides_them_but_for_what_is_gathered():
    alone = memory(pythia(), precision="bf16-true", microbatch_tokens=1)
    four = memory(pythia(), precision="bf16-true", microbatch_tokens=1, devices=4, sharded=True)
    assert four.optimizer == alone.optimizer / 4
    assert four.gradients == alone.gradients / 4
    # embeddings, head, norms and biases (what is not in the matrices of the layers), and two of 24 layers
    gathered = 2 * (1_414_647_808 - 1_207_959_552 + 2 * 1_207_959_552 / 24)
    assert four.weights == alone.weights / 4 + gathered
    assert four.evaluation == alone.evaluation  # one device does that


def test_ddp_holds_gradients_twice_and_an_adapter_trains_only_itself():
    two = memory(HAND, precision="32-true", microbatch_tokens=1, devices=2)
    assert two.gradients == 2 * 4 * 2_000
    adapted = memory(HAND, precision="bf16-true", microbatch_tokens=1, adapter=50)
    assert (adapted.weights, adapted.gradients, adapted.optimizer) == (2 * 2_050, 2 * 50, 4 * 50)
    quantised = memory(HAND, precision="bf16-true", microbatch_tokens=1, adapter=50, weight_bytes=0.5)
    assert quantised.weights == 0.5 * 2_000 + 2 * 50


def kept_by_autograd(settings, precision, tokens):
    """Bytes of distinct buffers that a forward pass keeps, weights aside."""
    model = AutoModelForCausalLM.from_config(settings, attn_implementation="sdpa")
    model.to(torch.bfloat16 if precision == "bf16-true" else torch.float32)
    weights = {p.untyped_storage().data_ptr() for p in (*model.parameters(), *model.buffers())}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)  # alive, so that no address comes twice
        return tensor

    mixed = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed")
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), mixed:
        model.base_model(input_ids=torch.zeros(1, tokens, dtype=torch.long), use_cache=False)
    return sum(size for size, _ in kept.values())


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true"])
@pytest.mark.parametrize("family", FAMILIES)
def test_activations_are_within_a_quarter_of_what_autograd_keeps(family, precision):
    def difference(tokens):  # of one layer, whatever the embeddings keep
        return kept_by_autograd(config(family), precision, tokens) - kept_by_autograd(
            config(family, layers=2), precision, tokens
        )

    really = difference(256) - difference(128)
    three, two = (shape_of(config(family, layers=layers)) for layers in (3, 2))
    estimated = [memory(s, precision=precision, microbatch_tokens=128).activations for s in (three, two)]
    assert estimated[0] - estimated[1] == pytest.approx(really, rel=0.25)
    assert estimated[0] == 4 / 3 * estimated[1]  # and gradients of one layer
    copies = difference(128) - really  # what does not grow with the tokens: matrices that autocast has copied
    assert copies == (2 * three.body / 3 if precision == "bf16-mixed" else 0)


def test_checkpointing_keeps_the_input_of_each_layer_and_one_layer_with_its_gradients():
    plain, checkpointed = (
        memory(pythia(), precision="32-true", microbatch_tokens=1000, checkpointing=on).activations
        for on in (False, True)
    )
    assert checkpointed == 2 * plain / 25 + 1000 * 24 * 2048 * 4


def test_gpu_hours_are_flops_over_the_share_of_the_peak():
    # 312e12 * .4 * 3600 = 4.4928e17 in an hour of an A100 in bfloat16, 19.5e12 in float32
    a100 = DEVICES["a100-80gb"]
    assert gpu_hours(4.4928e17, a100, "bf16-mixed", 0.4) == pytest.approx(1)
    assert gpu_hours(4.4928e17, a100, "32-true", 0.4) == pytest.approx(312 / 19.5)


def test_a_device_keeps_some_of_its_memory_to_itself():
    needed = memory(pythia(), precision="32-true", microbatch_tokens=1)
    assert needed.training > 16 * 1_414_647_808
    assert not DEVICES["rtx4090"].has_room(needed.training)  # 22.6 of 24 GB without a single activation
    assert DEVICES["a100-40gb"].has_room(needed.training)
