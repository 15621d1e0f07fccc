"""What a check is: one claim about one model, a number, and the limit that it has to stay below."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from cr_interp.capture.sites import Site

Status = Literal["pass", "fail", "skipped"]
States = dict[Site, Tensor]


@dataclass(frozen=True)
class Check:
    """One claim about one model."""

    claim: str
    status: Status
    difference: float | None = None
    limit: float | None = None
    where: str = ""
    """The worst site, or why there is no number."""


def compare(claim: str, found: States, expected: States, limit: float) -> Check:
    """Return the largest relative difference (of norms, per site) over the sites of ``found``."""
    worst, where = -1.0, ""
    for site, state in found.items():
        other = expected[site].float()
        difference = ((state.float() - other).norm() / other.norm().clamp_min(1e-30)).item()
        if not difference <= worst:
            worst, where = difference, str(site)
        if difference != difference:  # NaN, and nothing is worse
            break
    return Check(claim, "pass" if worst <= limit else "fail", worst, limit, where)


def limit_for(dtype: torch.dtype) -> float:
    """Return the largest difference that rounding may make: 1e-5 in float32; a few units of the last place in half precision."""
    return max(1e-5, 4 * torch.finfo(dtype).eps if torch.finfo(dtype).bits < 32 else 0.0)
