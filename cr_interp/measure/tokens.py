"""How far a single token moves between the two views: its state at a site, and what is predicted from it.

Mental model: x_t is the state without the context, y_t with it. These are the numbers of a row of ``token_drift``, whether
a study is measured (``drift.py``) or somebody tries a prompt (``tryout.py``).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from cr_interp.models.forward import log_probs
from cr_interp.models.loading import Loaded


def moves(
    x: Float[Tensor, "token width"], y: Float[Tensor, "token width"]
) -> tuple[Float[Tensor, " token"], Float[Tensor, " token"]]:
    """Compute cos(x_t, y_t) and |x_t − y_t| / |x_t|, in float64."""
    x, y = x.double(), y.double()
    norm = x.norm(dim=1)
    return (x * y).sum(1) / (norm * y.norm(dim=1)), (x - y).norm(dim=1) / norm


@torch.no_grad()
def output_kl(
    loaded: Loaded,
    x: Float[Tensor, "token width"],
    y: Float[Tensor, "token other_width"],
    chunk: int = 256,
    other: Loaded | None = None,
) -> Float[Tensor, " token"]:
    """Compute KL(p ‖ q) in nats of every token, from final states; in chunks, since a vocabulary is wide.

    p is what ``loaded`` predicts from ``x``, q what ``other`` (by default ``loaded`` as well) predicts from ``y``.
    """
    found = []
    for a, b in zip(x.split(chunk), y.split(chunk), strict=True):
        p, q = _predicted(loaded, a), _predicted(other or loaded, b)
        found.append((p.exp() * (p - q.to(p.device))).sum(1))
    return torch.cat(found)


def _predicted(loaded: Loaded, states: Float[Tensor, "token width"]) -> Float[Tensor, "token vocabulary"]:
    head = loaded.model.get_output_embeddings().weight
    return log_probs(loaded.model, states.to(head.device, head.dtype))
