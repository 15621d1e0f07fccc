"""Fidelity and invariance: how far three next-token distributions are apart on a checkpoint's own answers. No key is needed.

Mental model. The student has answered without the context. At every aligned position of these answers there are three
distributions: q_x the student without the context, q_c the student with it, f the teacher with it.

    fidelity     KL(q_x ‖ f)     is the student without the context what the teacher is with it?
    invariance   KL(q_x ‖ q_c)   does the context still change what the student says?

Both are sums over the full vocabulary, in nats a token; a row is an example, its value the mean over its tokens. Invariance
is measured under every context control, fidelity with the exact context, which is what the student was made to do without.
Only final states are kept, so nothing here is larger than a state a token and one chunk of log-probabilities.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from cr_interp.errors import UserError
from cr_interp.measure.subject import Subject
from cr_interp.measure.tokens import output_kl
from cr_interp.models.forward import build_view, encode_prefix, hidden_states, vocabulary
from cr_interp.models.grouping import put_together, sharing
from cr_interp.models.loading import Loaded, tokenizer_fingerprint
from cr_interp.system.notes import say
from cr_interp.views import check_fits, check_same_prompt, shared_prefix


@dataclass
class Own:
    """A checkpoint, what it was asked, the ids of its own answers without the context, and the teacher.

    ``responses`` maps an example's id to its answer's ids, ``turns`` cuts those of a task with turns
    (:func:`~cr_interp.measure.subject.own_turns`). Without a ``teacher`` there is no fidelity; it may be ``loaded`` itself.
    """

    loaded: Loaded
    subject: Subject
    responses: Mapping[str, Sequence[int]]
    turns: Mapping[str, Sequence[tuple[str, int]]]
    teacher: Loaded | None = None


def rows(given: Own) -> dict[str, pd.DataFrame]:
    """Compute ``divergence``: a row per example and control.

    Raises :class:`UserError` for a teacher that does not know the student's tokens, and for sequences that do not fit.
    """
    loaded, subject = given.loaded, given.subject
    if given.teacher is not None:
        check_teacher(loaded, given.teacher)
    examples = [each for each in subject.examples if len(given.responses.get(each.id, ()))]
    pieces = [piece for place, each in enumerate(examples) for piece in _pieces(given, place, each)]
    if not pieces:
        return {"divergence": pd.DataFrame()}
    owners = [place for place, _, _ in pieces]
    texts = [text for _, text, _ in pieces]
    answers = [answer for _, _, answer in pieces]
    asked = [examples[place] for place in owners]
    plain = subject.prompts(loaded.tokenizer, asked, None, texts)
    x = _states(loaded, plain, answers, subject.evaluation.batch_size)
    tokens = torch.tensor([owner for owner, answer in zip(owners, answers, strict=True) for _ in answer])
    counts = tokens.bincount(minlength=len(examples)).double()

    def means(kl: Float[Tensor, " token"]) -> list[float]:
        return (
            tokens.double().new_zeros(len(examples)).index_add(0, tokens, kl.double().cpu()) / counts
        ).tolist()

    found = []
    for control in subject.contexts:
        prompts = subject.prompts(loaded.tokenizer, asked, control, texts)
        check_same_prompt(loaded.tokenizer, plain, prompts, control)
        c = _states(loaded, prompts, answers, subject.evaluation.batch_size)
        invariance = means(output_kl(loaded, x, c))
        fidelity = [math.nan] * len(examples)
        if control == "exact" and given.teacher is not None:
            if given.teacher is loaded:
                fidelity = invariance
            else:
                f = _states(given.teacher, prompts, answers, subject.evaluation.batch_size)
                fidelity = means(output_kl(loaded, x, f, other=given.teacher))
        found.append(
            pd.DataFrame(
                {
                    "example_id": [each.id for each in examples],
                    "cluster": [each.cluster for each in examples],
                    "control": control,
                    "n_tokens": counts.long().tolist(),
                    "fidelity": fidelity,
                    "invariance": invariance,
                }
            )
        )
    return {"divergence": pd.concat(found, ignore_index=True)}


def _pieces(given: Own, place: int, example: Any) -> list[tuple[int, str, list[int]]]:
    """Return the answer of an example, or of each of its turns: place of the example, text of the prompt, ids."""
    ids, start, found = list(given.responses[example.id]), 0, []
    for text, tokens in given.turns.get(example.id, [(example.prompt, len(ids))]):
        found.append((place, text, ids[start : start + tokens]))
        start += tokens
    return found


@torch.no_grad()
def _states(
    loaded: Loaded, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], size: int
) -> Float[Tensor, "token width"]:
    """Compute final states at the aligned positions of all answers, one after the other; ``size`` sequences at a time."""
    longest = max(len(p) + len(a) for p, a in zip(prompts, answers, strict=True))
    check_fits(longest, loaded.max_positions, "The longest prompt with its answer")
    groups = sharing(prompts)
    found = []
    for group in groups:
        mine, said = [prompts[i] for i in group], [answers[i] for i in group]
        shared = shared_prefix(mine)
        prefix = encode_prefix(loaded.model, mine[0][:shared])
        for start in range(0, len(mine), size):
            part = slice(start, start + size)
            found.append(
                hidden_states(loaded.model, build_view(mine[part], said[part], loaded.pad_id, shared), prefix)
            )
    order = [i for group in groups for i in group]
    return put_together([order], [len(answer) for answer in answers], [torch.cat(found)])


class Teacher:
    """The model whose answers a study's students were to give, loaded when first asked for and kept for all of them.

    ``name`` None: no teacher is known. A checkpoint that *is* the teacher is not loaded a second time.
    """

    def __init__(self, opened: Callable[[str], Loaded], name: str | None) -> None:
        self.opened, self.name = opened, name
        self._loaded: Loaded | None = None

    def known(self, name: str) -> Loaded | None:
        """Return the teacher, if it is what ``name`` says and has been loaded."""
        return self._loaded if name == self.name else None

    def forget(self) -> None:
        """Let go of the model, before others need its memory."""
        self._loaded = None

    def of(self, student: Loaded, name: str) -> Loaded | None:
        """Return the teacher of a student that was loaded from ``name``."""
        if self.name is None:
            return None
        if self._loaded is None:
            try:
                self._loaded = student if name == self.name else self.opened(self.name)
            except UserError as error:  # a finished study takes further arms, and its base may be gone
                say(f"Fidelity is left out, for the teacher is not here: {error}")
                self.name = None
        return self._loaded


def check_teacher(student: Loaded, teacher: Loaded) -> None:
    """Refuse a teacher that reads or says other tokens than the student: no distribution of one is one of the other."""
    if tokenizer_fingerprint(student.tokenizer) != tokenizer_fingerprint(teacher.tokenizer):
        raise UserError(
            f"The teacher {teacher.name} has another tokenizer or chat template than {student.name}, so what it predicts "
            f"cannot be compared token by token. Give a teacher of the same model family, or none (fidelity is then left out)."
        )
    heads = vocabulary(student.model), vocabulary(teacher.model)
    if heads[0] != heads[1]:
        raise UserError(
            f"The LM heads of {student.name} and its teacher {teacher.name} have {heads[0]} and {heads[1]} rows, so their "
            f"distributions cannot be compared. Give both the same number (transformers' resize_token_embeddings)."
        )
