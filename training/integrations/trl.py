"""No-Context Anchoring on TRL's self-distillation trainer: one more forward, one more term.

    loss = KL(q_x ‖ f) + beta · KL(sg[q_x] ‖ q_c)

q_x is the student on its own prompt, q_c the same student on the teacher's prompt (the one with the privileged context), f the
teacher there. SDFT trains the first term. The second holds what the student says when the context returns to what it says
without: the gradient goes into q_c alone, and the support is that of q_x, as in the first term. Source: arXiv 2606.11627.

Needs TRL (the extra ``trl``, whose version is pinned: this trainer is experimental there and its inside changes). Nothing else of
this project is imported, so that the file can be offered there as it is.
"""

from dataclasses import dataclass, field

import torch
from trl.experimental.sdft import SDFTConfig, SDFTTrainer
from trl.experimental.sdft.loss_utils import (
    compute_full_logit_self_distillation_loss,
    compute_topk_self_distillation_loss,
)


@dataclass
class NCAConfig(SDFTConfig):
    r"""
    Configuration of the [`NCATrainer`]: that of SDFT with one more weight, and the defaults of the paper.

    Parameters:
        nca_beta (`float`, *optional*, defaults to `0.5`):
            Weight of the anchor. `0.0` is SDFT without a change.
        max_prompt_length (`int`, *optional*):
            Has to stay `None`. SDFT cuts prompts from the left, where a leading context is.
    """

    nca_beta: float = field(default=0.5, metadata={"help": "Weight of the anchor KL(sg[q_x] || q_c)."})
    max_prompt_length: int | None = field(default=None, metadata={"help": "Has to stay None."})
    distillation_alpha: float = field(default=1.0, metadata={"help": "1.0 is KL(student || teacher)."})
    distillation_is_clip: float | None = field(
        default=None, metadata={"help": "The anchor has no importance weights."}
    )
    num_generations: int = field(default=1, metadata={"help": "Completions sampled for each prompt."})

    def __post_init__(self):
        super().__post_init__()
        if self.max_prompt_length is not None:
            raise ValueError(
                f"`max_prompt_length={self.max_prompt_length}` would cut prompts from the left and drop a leading context "
                "without a word. Leave it at `None`, and filter prompts that are too long."
            )
        if self.nca_beta < 0:
            raise ValueError(f"`nca_beta` is a weight of at least 0, got {self.nca_beta}.")
        if self.nca_beta and self.distillation_mode == "sampled_token":
            raise ValueError(
                "The anchor is an exact KL over a support: use `distillation_mode` 'full_logits' or 'topk_logits'."
            )
        if self.nca_beta and self.use_teacher_server:
            raise ValueError(
                "The anchor needs the student's own logits behind the context: `use_teacher_server` gives none."
            )


class NCATrainer(SDFTTrainer):
    """SDFT with No-Context Anchoring. Same dataset (`prompt`, `privileged_context`), same arguments, `nca_beta` more."""

    _tag_names = ["trl", "nca"]  # noqa: RUF012  # as the trainer above has it
    _name = "NCA"
    config_cls = NCAConfig
    args: NCAConfig

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        if return_outputs:
            raise ValueError("The NCATrainer does not support returning outputs")
        logits = self._compute_teacher_student_logits(model, self.teacher_model, inputs)
        loss = self._compute_self_distillation_loss(model, inputs, logits)
        if self.args.nca_beta and logits.loss_mask.sum() > 0:
            loss = loss + self.args.nca_beta * self._anchor(model, inputs, logits)
        return loss / (self.current_gradient_accumulation_steps if model.training else 1.0)

    def _anchor(self, model, inputs, logits) -> torch.Tensor:
        """Compute KL(sg[q_x] || q_c): the student behind the context, on the same completion, held to itself without."""
        given = self._forward_logits(
            model,
            inputs["teacher_input_ids"],
            inputs["teacher_attention_mask"],
            logits.completion_ids.size(1),
        )
        anchor = logits.student_logits.detach()
        # TRL's "student" is the side whose support counts and that comes first, KL(student || teacher) at alpha 1.
        if self.args.distillation_mode == "topk_logits":
            per_token = compute_topk_self_distillation_loss(
                anchor,
                given,
                distillation_topk=self.args.distillation_topk or 100,
                distillation_alpha=1.0,
                distillation_add_tail=self.args.distillation_add_tail,
            )
        else:
            per_token = compute_full_logit_self_distillation_loss(anchor, given, distillation_alpha=1.0)
        mask = logits.loss_mask
        mode = "train" if model.training else "eval"
        mean = (per_token.detach() * mask).sum() / mask.sum()
        self._metrics[mode]["nca/anchor"].append(self.accelerator.gather(mean).mean().item())
        return ((per_token * mask).sum(-1) / mask.sum(-1).clamp(min=1.0)).mean()
