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
    """cos(x_t, y_t) and |x_t − y_t| / |x_t|, in float64."""
    x, y = x.double(), y.double()
    norm = x.norm(dim=1)
    return (x * y).sum(1) / (norm * y.norm(dim=1)), (x - y).norm(dim=1) / norm


@torch.no_grad()
def output_kl(
    loaded: Loaded, x: Float[Tensor, "token width"], y: Float[Tensor, "token width"], chunk: int = 256
) -> Float[Tensor, " token"]:
    """KL(q_x ‖ q_c) in nats of every token, from final states; in chunks, since a vocabulary is wide."""
    head = loaded.model.get_output_embeddings().weight
    found = []
    for a, b in zip(x.split(chunk), y.split(chunk), strict=True):
        p, q = (log_probs(loaded.model, rows.to(head.device, head.dtype)) for rows in (a, b))
        found.append((p.exp() * (p - q)).sum(1))
    return torch.cat(found)
