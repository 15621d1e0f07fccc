"""An adapter: one copy is student and teacher, merging leaves no trace, checkpoints are adapters and read as models."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from steps import assert_close, batch, reader, step
from test_trainer import small
from tiny import tiny, tiny_model
from transformers import TrainerCallback

from cr_interp.errors import NotFinite, UserError
from cr_interp.models.loading import Loaded, load
from cr_interp.study.study import Study
from training.run.checkpoints import SEAL, seal
from training.run.distill import distill, load_pair
from training.run.lora import adapter_off, merged, save_adapter, with_adapter
from training.run.recompute import recompute_layers
from training.settings import Lora, load_config

pytest.importorskip("peft")
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
LORA = ["training.lora.rank=4", "training.lora.alpha=8"]


def bits(model):
    """Every tensor of the base, under the name it has without an adapter."""
    return {
        name.removeprefix("base_model.model.").replace(".base_layer", ""): tensor.clone()
        for name, tensor in model.state_dict().items()
        if "lora_" not in name
    }


def same(a, b):
    assert a.keys() == b.keys()
    return all(torch.equal(a[name], b[name]) for name in a)


def moved(loaded, seed=0, scale=0.3):
    """As if the adapter had been trained: B is 0 at first."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in loaded.model.named_parameters():
            if "lora_B" in name:
                p.add_(scale * torch.randn(p.shape, generator=generator))
    return loaded


def logits(model):
    with torch.no_grad():
        return model(input_ids=torch.arange(3, 12)[None]).logits


@pytest.fixture
def base_folder(tmp_path):
    loaded = tiny()
    for part in (loaded.model, loaded.tokenizer):
        part.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def test_the_teacher_is_the_base_and_there_is_no_second_copy(base_folder):
    config = small(*LORA)
    student, teacher = load_pair(config)
    assert teacher is student
    plain = load(str(base_folder))
    untouched = logits(plain.model)
    adapted = moved(with_adapter(plain, Lora(rank=2), 0))
    assert not torch.equal(logits(adapted.model), untouched)
    with adapter_off(adapted.model):
        assert torch.equal(logits(adapted.model), untouched)
    trained = {name for name, p in adapted.model.named_parameters() if p.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)


def test_at_the_start_nca_s_terms_are_equal_and_only_the_adapter_gets_a_gradient():
    prompts, responses = batch()
    adapted = with_adapter(Loaded("m", tiny_model("llama", layers=2).train(), tiny().tokenizer), Lora(rank=2), 0)
    made = reader(adapted, adapted, "nca")
    result = made.losses(adapted.model, prompts, responses)
    values = [value.item() for value in result.terms.values()]
    assert values[0] == pytest.approx(values[1], rel=1e-6)  # q_c is f as long as B = 0
    assert values[0] > 0
    result.total.backward()
    grads = {name for name, p in adapted.model.named_parameters() if p.grad is not None}
    assert grads
    assert all("lora_" in name for name in grads)
    moved(adapted)
    values = [value.item() for value in made.losses(adapted.model, prompts, responses).terms.values()]
    assert values[0] != pytest.approx(values[1], rel=1e-2)


@pytest.mark.parametrize("options", [{"chunk": 5}, {"top_k": 8, "chunk": 5}])
def test_an_adapter_goes_with_recomputed_layers_and_chunks(options):
    """The adapter is switched off for the teacher between the student's forward and backward pass."""
    prompts, responses = batch()
    found = []
    for recompute in (False, True):
        loaded = Loaded("m", tiny_model("llama", layers=2).train(), tiny().tokenizer)
        adapted = moved(with_adapter(loaded, Lora(rank=2), 0))
        if recompute:
            recompute_layers(adapted.model)
        chosen = options if recompute else {"top_k": options.get("top_k")}
        found.append(step(reader(adapted, adapted, "sym_kl", **chosen), prompts, responses))
    assert found[1][0].total.item() == pytest.approx(found[0][0].total.item(), rel=1e-5)
    assert_close(found[1][1], found[0][1])


@pytest.mark.parametrize("family", ["llama", "gpt2", "phi3"])
def test_merging_is_the_same_student_and_leaves_the_base_its_bits(family):
    adapted = moved(with_adapter(Loaded("m", tiny_model(family).eval(), tiny().tokenizer), Lora(rank=2), 0))
    before, unmerged = bits(adapted.model), logits(adapted.model)
    storages = [p.data_ptr() for p in adapted.model.parameters()]
    with merged(adapted.model):
        assert not same(bits(adapted.model), before)
        torch.testing.assert_close(logits(adapted.model), unmerged, atol=1e-4, rtol=1e-4)
    assert same(bits(adapted.model), before)
    assert [p.data_ptr() for p in adapted.model.parameters()] == storages
    assert torch.equal(logits(adapted.model), unmerged)
    with pytest.raises(KeyError), merged(adapted.model):
        raise KeyError
    assert same(bits(adapted.model), before)
    assert torch.equal(logits(adapted.model), unmerged)


def test_what_would_round_is_not_merged_and_plain_models_are_left_alone():
    model = tiny_model("llama").to(torch.bfloat16).eval()
    adapted = moved(with_adapter(Loaded("m", model, tiny().tokenizer), Lora(rank=2), 0))
    before = bits(adapted.model)
    assert {p.dtype for name, p in adapted.model.named_parameters() if "lora_" in name} == {torch.float32}
    with merged(adapted.model):
        assert same(bits(adapted.model), before)
    plain = tiny_model("llama")
    with merged(plain):
        assert not hasattr(plain, "peft_config")


def test_a_diverged_adapter_is_not_merged():
    adapted = moved(
        with_adapter(Loaded("m", tiny_model("llama"), tiny().tokenizer), Lora(rank=2), 0), scale=torch.inf
    )
    before = bits(adapted.model)
    with pytest.raises(NotFinite, match="not finite"), merged(adapted.model):
        pass
    assert same(bits(adapted.model), before)


def test_the_random_half_depends_on_the_seed_alone():
    def first(seed, noise):
        torch.manual_seed(noise)
        made = with_adapter(Loaded("m", tiny_model("llama"), tiny().tokenizer), Lora(rank=2), seed)
        return {n: p.clone() for n, p in made.model.named_parameters() if "lora_" in n}

    assert same(first(0, 1), first(0, 2))
    assert not same(first(0, 1), first(1, 1))


@pytest.mark.slow
def test_a_run_saves_adapters_and_resumes_with_the_same_bits(tmp_path):
    final = distill(small(*LORA), "nca", 0, Study.create(tmp_path / "whole", {}))
    names = {path.name for path in final.iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json", "base.json", "optimizer.pt"} <= names
    assert not names & {"model.safetensors", "README.md"}
    assert (
        json.loads((final / "adapter_config.json").read_text())["base_model_name_or_path"]
        == "builtin:organism-rules"
    )

    class Stop(Exception):
        pass

    class Killer(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == 5:
                raise Stop

    parts = Study.create(tmp_path / "parts", {})
    with pytest.raises(Stop):
        distill(small(*LORA), "nca", 0, parts, callbacks=[Killer()])
    again = distill(small(*LORA), "nca", 0, parts)
    assert same(*(load_file(folder / "adapter_model.safetensors") for folder in (final, again)))


def test_a_checkpoint_is_the_trained_model(tmp_path, base_folder):
    adapted = moved(with_adapter(load(str(base_folder)), Lora(rank=2), 0))
    save_adapter(adapted.model, tmp_path / "adapter")
    again = load(str(tmp_path / "adapter"))
    assert torch.equal(logits(again.model), logits(adapted.model.eval()))
    with adapter_off(again.model):
        assert torch.equal(logits(again.model), logits(load(str(base_folder)).model))
    assert again.tokenizer.chat_template == adapted.tokenizer.chat_template
    adapted.tokenizer.chat_template += " "
    adapted.tokenizer.save_pretrained(
        tmp_path / "adapter"
    )  # as a run does, whose configuration may fix the template
    assert load(str(tmp_path / "adapter")).tokenizer.chat_template == adapted.tokenizer.chat_template


@pytest.mark.slow
@pytest.mark.usefixtures("warm_jobs")
def test_adapters_are_evaluated_and_captured_like_any_checkpoint(tmp_path):
    from training.studies.pipeline import reproduce

    config = small(
        *LORA,
        "arms=[opd,nca]",
        "seeds=[0]",
        "steps=10",
        "lr=3e-3",
        "evaluation.examples=8",
        "evaluation.permutations=9",
        "keep_checkpoints=1",
    )
    study = reproduce(config, tmp_path / "s", workers=1)
    for table in ("generations", "drift", "token_drift"):
        assert set(study.table(table)["arm"]) == {"base", "opd", "nca"}
    assert [c[:3] for c in study.checkpoints()] == [("nca", 0, 10), ("opd", 0, 10)]
    cosine = (
        study.table("drift").query("measure == 'cosine' and control == 'exact'").groupby("arm")["estimate"].min()
    )
    assert cosine["opd"] != cosine["base"]


def refit(folder, **changes):
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_an_adapter_for_another_base_is_refused(tmp_path, base_folder):
    save_adapter(moved(with_adapter(load(str(base_folder)), Lora(rank=2), 0)).model, tmp_path / "adapter")
    other = tiny(seed=1)
    for part in (other.model, other.tokenizer):
        part.save_pretrained(tmp_path / "other")
    refit(tmp_path / "adapter", base_model_name_or_path=str(tmp_path / "other"))
    with pytest.raises(UserError, match=r"was trained on '.*base' with the fingerprint .* but .*other here has"):
        load(str(tmp_path / "adapter"))
    # Without a note of its base an adapter is judged by its tensors.
    (tmp_path / "adapter" / "base.json").unlink()
    load(str(tmp_path / "adapter"))
    refit(tmp_path / "adapter", base_model_name_or_path="builtin:organism-rules")
    with pytest.raises(UserError, match=r"does not fit its base builtin:organism-rules"):
        load(str(tmp_path / "adapter"))
    refit(tmp_path / "adapter", base_model_name_or_path=str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"The base of the adapter .* could not be loaded\. There is no folder"):
        load(str(tmp_path / "adapter"))


def test_an_adapter_of_fewer_layers_is_refused(tmp_path):
    """The library would apply it to the layers that it has, with a warning."""
    tokenizer = tiny().tokenizer
    for layers in (2, 3):
        tiny_model("llama", layers=layers, vocab_size=len(tokenizer)).save_pretrained(tmp_path / str(layers))
        tokenizer.save_pretrained(tmp_path / str(layers))
    chosen = Lora(rank=2, target_modules=("q_proj",))  # 'all-linear' is written down layer by layer
    save_adapter(with_adapter(load(str(tmp_path / "2")), chosen, 0).model, tmp_path / "adapter")
    (tmp_path / "adapter" / "base.json").unlink()
    refit(tmp_path / "adapter", base_model_name_or_path=str(tmp_path / "3"))
    with pytest.raises(UserError, match=r"2 places get none \(such as .*layers\.2"):
        load(str(tmp_path / "adapter"))


@pytest.mark.slow
def test_a_resumed_run_checks_its_base(tmp_path):
    study = Study.create(tmp_path / "s", {})
    chosen = small(*LORA, "steps=4", "save_every=2")
    distill(chosen, "opd", 0, study)
    run = study.run_path("opd", 0)
    shutil.rmtree(run / "checkpoint-4")
    text = json.dumps({"base": "builtin:organism-rules", "fingerprint": "0" * 32})
    (run / "checkpoint-2" / "base.json").write_text(text)
    (run / "checkpoint-2" / SEAL).unlink()
    seal(run / "checkpoint-2", 2)
    with pytest.raises(UserError, match="trained on 'builtin:organism-rules' with the fingerprint 000"):
        distill(chosen, "opd", 0, study)


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        (("q_projj",), r"q_projj.*does not fit.*q_proj"),
        (("q_proj", "lm_head"), "the LM head"),
        (("embed_tokens",), "embeddings"),
    ],
)
def test_targets_have_to_be_linear_maps_inside_the_layers(targets, said):
    with pytest.raises(UserError, match=said):
        with_adapter(Loaded("m", tiny_model("llama"), tiny().tokenizer), Lora(rank=2, target_modules=targets), 0)


def test_an_adapter_is_not_put_on_an_adapter(tmp_path, base_folder):
    save_adapter(with_adapter(load(str(base_folder)), Lora(rank=2), 0).model, tmp_path / "adapter")
    for more in (LORA, []):
        with pytest.raises(UserError, match=r"is an adapter.*merge_and_unload"):
            load_pair(small(f"model={tmp_path / 'adapter'}", *more))


def test_configurations_say_what_an_adapter_can_be():
    assert load_config("organism-shift", ["training.lora={}"]).training.lora == Lora()
    assert load_config("organism-shift").training.lora is None
    with pytest.raises(UserError, match=r"dropout has to be 0.*found 0\.1"):
        load_config("organism-shift", ["training.lora.dropout=0.1"])
    with pytest.raises(
        UserError, match=r"Unknown key 'training.lora.rnk'. Did you mean 'rank'\? Valid here: rank, alpha"
    ):
        load_config("organism-shift", ["training.lora.rnk=4"])


def test_another_teacher_stays_another_model():
    student, teacher = load_pair(small(*LORA, "teacher=builtin:organism-qwen3", "model=builtin:organism-rules"))
    assert teacher is not student
