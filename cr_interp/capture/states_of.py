"""Two names of the public interface: what ``capture`` gives, and which response its rows are of."""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from cr_interp.capture import capture

#: ``capture`` of ``cr_interp.capture``, whose package has that name already.
capture_states = capture


def owners(responses: Sequence[Sequence[int]]) -> Int[Tensor, " token"]:
    """Number the response that each row of captured states belongs to, in the order of ``build_view``'s responses.

    >>> owners([[5, 6], [7]])
    tensor([0, 0, 1])
    """
    return torch.repeat_interleave(torch.arange(len(responses)), torch.tensor([len(each) for each in responses]))
