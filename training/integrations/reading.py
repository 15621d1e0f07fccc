"""Both views of a few examples, read from a model as it is at this step: numbers, and the answers behind them.

Mental model. The model answers each example greedily in both views. Its own answer without the context is then read in both
views; a teacher, where there is one, reads it with the context. At the aligned positions the distributions give invariance
and fidelity, the states the lowest cosine over layers. Greedy and without dropout, so a reading draws no random number.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from cr_interp.capture import capture
from cr_interp.capture.sites import Site, residual_sites
from cr_interp.errors import UserError
from cr_interp.measure.tokens import moves, output_kl
from cr_interp.models.forward import build_view, encode_prefix, hidden_states, log_probs
from cr_interp.models.generation import Decoding, Response, decode_text, generate
from cr_interp.models.loading import Loaded
from cr_interp.views import shared_prefix
from cr_interp.vocabulary import UNGRADED

from .asked import Asked

#: (expected answer, response, was it cut off) → outcome, as of :mod:`cr_interp.tasks.graders`.
Grader = Callable[[str, str, bool], str]
FINAL = Site("final", -1)


class Views:
    """A question to a model in training: examples in both views with the longest answer, and how an answer is judged."""

    def __init__(self, examples: Sequence[Asked], max_new_tokens: int, grade: Grader) -> None:
        self.examples, self.grade = list(examples), grade
        self.decoding = Decoding(max_new_tokens, batch_size=len(examples))
        self.keyed = [place for place, each in enumerate(examples) if each.answer is not None]

    def read(
        self,
        loaded: Loaded,
        teacher: Loaded | None = None,
        as_teacher: Callable[[], AbstractContextManager] = nullcontext,
    ) -> tuple[dict[str, float | None], list[dict[str, Any]]]:
        """Measure this step: numbers, and rows of answers. Without a key there are no accuracies, without a teacher no
        fidelity.

        ``as_teacher`` makes ``teacher`` one while it is read, as by an adapter that is off.
        """
        without, given = [each.without for each in self.examples], [each.given for each in self.examples]
        x, c = generate(loaded, without, self.decoding), generate(loaded, given, self.decoding)
        rows = self._rows(loaded, x, c)
        numbers = self._behaviour(rows, x, c)
        numbers |= self._states(loaded, without, given, x, teacher, as_teacher)
        return numbers, rows

    def _rows(self, loaded: Loaded, x: Sequence[Response], c: Sequence[Response]) -> list[dict[str, Any]]:
        found = []
        for view, control, responses in (("no_context", "none", x), ("with_context", "exact", c)):
            for each, response in zip(self.examples, responses, strict=True):
                text = decode_text(loaded, response)
                keyed = each.answer is not None
                outcome = self.grade(str(each.answer), text, response.truncated) if keyed else UNGRADED
                found.append(
                    {
                        "example_id": each.id,
                        "cluster": each.id,
                        "view": view,
                        "control": control,
                        "sample": 0,
                        "prompt": each.prompt,
                        "answer": each.answer,
                        "response": text,
                        "response_ids": list(response.ids),
                        "n_tokens": len(response.ids),
                        "outcome": outcome,
                        "obeys_new": None,
                    }
                )
        return found

    def _behaviour(
        self, rows: list[dict[str, Any]], x: Sequence[Response], c: Sequence[Response]
    ) -> dict[str, float | None]:
        n = len(self.examples)
        texts = [row["response"] for row in rows]
        lengths = [sum(len(each.ids) for each in side) / n for side in (x, c)]
        found: dict[str, float | None] = {
            "n": float(n),
            "length": lengths[0],
            "delta_len": lengths[1] / lengths[0] - 1,
            "changed": sum(one != other for one, other in zip(texts[:n], texts[n:], strict=True)) / n,
        }
        if not self.keyed:
            return found
        right = [[rows[side * n + place]["outcome"] == "right" for place in self.keyed] for side in (0, 1)]
        pairs = list(zip(*right, strict=True))
        found |= {
            "acc_x": _share([one for one, _ in pairs]),
            "acc_xc": _share([other for _, other in pairs]),
            "both_correct": _share([one and other for one, other in pairs]),
            "harm": _share([not other for one, other in pairs if one]),
            "rescue": _share([other for one, other in pairs if not one]),
        }
        return found

    def _states(
        self,
        loaded: Loaded,
        without: list[list[int]],
        given: list[list[int]],
        responses: Sequence[Response],
        teacher: Loaded | None,
        as_teacher: Callable[[], AbstractContextManager],
    ) -> dict[str, float | None]:
        ids = [list(each.ids) for each in responses]
        views = [build_view(side, ids, loaded.pad_id, shared_prefix(side)) for side in (without, given)]
        sites = _sites(loaded.model)
        x, c = (capture(loaded.model, view, [*sites, FINAL], check_finite=False) for view in views)
        found: dict[str, float | None] = {"invariance": _mean(output_kl(loaded, x[FINAL], c[FINAL]))}
        blocks = [site for site in sites if site.name == "resid_post"]
        if blocks:
            found["min_cosine"] = min(float(moves(x[site], c[site])[0].mean()) for site in blocks)
        if teacher is not None and not hasattr(loaded.model.get_output_embeddings(), "base_layer"):
            with as_teacher():  # its head is the student's: one with an adapter in it is left out
                f = hidden_states(teacher.model, views[1], encode_prefix(teacher.model, views[1].prefix))
            found["fidelity"] = _to_teacher(loaded, x[FINAL], teacher, f)
        return found


def _sites(model: nn.Module) -> list[Site]:
    """Return every block's output; none for an architecture whose sites are not known."""
    try:
        return residual_sites(model)
    except UserError:
        return []


def _to_teacher(student: Loaded, x: torch.Tensor, teacher: Loaded, f: torch.Tensor, chunk: int = 256) -> float:
    """Compute KL(q_x ‖ f) in nats a token, from final states; in chunks, since a vocabulary is wide."""
    total = 0.0
    for a, b in zip(x.split(chunk), f.split(chunk), strict=True):
        p, q = log_probs(student.model, a), log_probs(teacher.model, b)
        total += float((p.exp() * (p - q.to(p.device))).sum())
    return total / len(x)


def _mean(values: torch.Tensor) -> float:
    return float(values.double().mean())


def _share(found: Sequence[bool]) -> float | None:
    """Divide; None where nothing can be counted, as Harm where no answer is right without the context."""
    return sum(found) / len(found) if found else None
