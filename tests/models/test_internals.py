"""What `models` assumes about the insides of torch, transformers and PEFT."""

import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AttentionInterface

from mpo_lightning.models import internals
from mpo_lightning.models.internvl.tiny import tiny_model


def test_attention_is_chosen_at_each_call_by_the_configuration() -> None:
    model, _ = tiny_model(0)
    calls = []

    def counted(module: nn.Module, query: torch.Tensor, *_: object, **__: object) -> tuple[torch.Tensor, None]:
        calls.append(module)
        return query.transpose(1, 2).contiguous(), None

    AttentionInterface.register("counted", counted)
    ids = torch.arange(4).unsqueeze(0)
    with torch.no_grad():
        before = model(input_ids=ids).logits
        config = model.config.get_text_config()
        usual = config._attn_implementation
        internals.set_attention(config, "counted")
        model(input_ids=ids)
        assert len(calls) == config.num_hidden_layers
        internals.set_attention(config, usual)
        assert torch.equal(model(input_ids=ids).logits, before) and len(calls) == config.num_hidden_layers


def test_without_its_adapters_a_model_is_the_base_and_trains_the_same_weights() -> None:
    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(3, 3))
    x = torch.randn(2, 3)
    expected = base(x)
    model = get_peft_model(base, LoraConfig(target_modules=["0"], init_lora_weights=False))
    trained = [name for name, part in model.named_parameters() if part.requires_grad]
    assert not torch.equal(model(x), expected)
    with internals.adapters_off(model):
        assert torch.equal(model(x), expected)
        assert [name for name, part in model.named_parameters() if part.requires_grad] == trained
    assert not torch.equal(model(x), expected)


def test_parameters_and_buffers_are_replaced_in_place() -> None:
    module = nn.BatchNorm1d(2)
    parameters, buffers = internals.parameters_and_buffers(module)
    parameters["weight"] = nn.Parameter(torch.full((2,), 3.0))
    buffers["running_mean"] = torch.full((2,), 5.0)
    assert module.weight.tolist() == [3.0, 3.0] and module.running_mean.tolist() == [5.0, 5.0]


def test_fake_tensors_have_no_memory_but_tell_views_from_copies() -> None:
    with internals.FakeTensorMode():
        one = torch.empty(10**9, 10**6)  # four petabytes
        assert internals.storage_key(one) == internals.storage_key(one.view(-1))
        assert internals.storage_key(one) != internals.storage_key(one.clone())
