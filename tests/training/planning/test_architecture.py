"""Parameters from a shape: exact against built models, and the published totals of the models in the table."""

import pytest
from tiny import tiny, tiny_model

from cr_interp.errors import UserError
from training.planning.architecture import architecture_of, count, of_config, published

#: Of the models' pages on the hub, in billions; Qwen3-1.7B's 2.03 there counts the tied head twice.
PUBLISHED = {
    "meta-llama/Llama-3.2-3B-Instruct": 3.21,
    "meta-llama/Llama-3.1-8B-Instruct": 8.03,
    "Qwen/Qwen2.5-7B-Instruct": 7.62,
    "Qwen/Qwen3-8B": 8.19,
    "Qwen/Qwen3-4B": 4.02,
    "Qwen/Qwen3-1.7B": 1.72,
    "builtin:smollm2-135m-instruct": 0.135,
}


def test_the_table_gives_the_published_totals():
    assert set(published()) == set(PUBLISHED)
    for name, billions in PUBLISHED.items():
        assert published()[name].parameters / 1e9 == pytest.approx(billions, rel=0.004)


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "mistral", "gemma2", "gpt_neox", "gpt2", "olmo2"])
@pytest.mark.parametrize("tied", [False, True])
def test_the_count_is_that_of_a_built_model(family, tied):
    model = tiny_model(family, layers=2, tie_word_embeddings=tied)
    shape = of_config(model.config)
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    assert (shape.counted is None) == (family in ("llama", "qwen2", "qwen3", "mistral"))


def test_the_closed_form_equals_the_models_own_code_at_full_size():
    from transformers import AutoConfig

    for name, shape in published().items():
        config = AutoConfig.for_model(
            shape.family,
            num_hidden_layers=shape.layers,
            hidden_size=shape.width,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.kv_heads,
            head_dim=shape.head,
            intermediate_size=shape.intermediate,
            vocab_size=shape.vocabulary,
            tie_word_embeddings=shape.tied,
        )
        assert count(config) == shape.parameters, name


def test_a_folder_and_an_organism_are_read_from_their_own_configuration(tmp_path):
    loaded = tiny("qwen3")
    loaded.model.save_pretrained(tmp_path)
    assert architecture_of(str(tmp_path)).parameters == loaded.model.num_parameters()
    assert architecture_of("builtin:organism-rules").family == "llama"


def test_an_unknown_hub_id_is_not_downloaded():
    with pytest.raises(UserError, match="nothing is downloaded to plan"):
        architecture_of("somebody/something")
