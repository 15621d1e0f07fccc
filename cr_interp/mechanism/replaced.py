"""What a cell's states are replaced by: the other view's, or one of the controls of the same size.

Mental model. ``none`` is the effect itself: the donor's states. ``random`` moves the receiver's own states as far in a random
direction, ``other`` takes the donor's states of another example at the same place. Of a head only its own part is replaced.
"""

from collections.abc import Mapping, Sequence
from zlib import crc32

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor

from cr_interp.capture.sites import Site
from cr_interp.mechanism.batches import Batch
from cr_interp.mechanism.cells import Cell, part
from cr_interp.mechanism.given import Pair
from cr_interp.tables.patching import CONTROLS as MEANT

CONTROLS = tuple(MEANT)
States = Float[Tensor, "token width"]
#: view → site → states
Seen = Mapping[str, Mapping[Site, States]]


def replacements(
    batch: Batch, cell: Cell, states: Seen, donor: str, receiver: str, control: str
) -> tuple[dict[Site, States], Bool[Tensor, " example"]]:
    """Make what each of the cell's sites is replaced by in the receiver, and which examples the control has.

    ``states`` are those of :meth:`~cr_interp.mechanism.batches.Batch.states`, guests' behind the batch's own.
    """
    has = torch.ones(len(batch.pairs), dtype=torch.bool)
    there = None
    if control == "other":
        has = torch.tensor([partner is not None for partner in batch.partners])
        there = batch.partner_tokens
    put = {}
    for site in cell.sites:
        everybody = states[donor][site]
        own, new = states[receiver][site][: len(batch.tokens)], everybody[: len(batch.tokens)]
        here = part(batch.loaded.model, cell, own)
        if control == "none":
            found = new[:, here]
        elif control == "random":
            distance = (new[:, here] - own[:, here]).float().norm(dim=-1, keepdim=True)
            name = str(site if cell.head is None else cell)
            found = own[:, here] + (
                random_directions(batch.pairs, name, distance.device, own[:, here].shape[1]) * distance
            ).to(own)
        else:
            assert there is not None
            found = everybody[there.to(new.device)][:, here]
        if cell.head is not None:
            whole = own.clone()
            whole[:, here] = found
            found = whole
        put[site] = found
    return put, has


def otherwise(batch: Batch, control: str, there: Tensor) -> Bool[ndarray, " example"]:
    """Tell of the examples ``there`` whether their state is one of an example with another answer."""
    found: np.ndarray = batch.otherwise[there].numpy()
    return found if control == "other" else np.zeros(len(found), dtype=bool)


def random_directions(pairs: Sequence[Pair], name: str, device: torch.device, width: int) -> States:
    """Draw a random direction for every token, which depends on the example and the name and not on the batch."""
    parts = []
    for pair in pairs:
        generator = torch.Generator().manual_seed(crc32(f"{pair.example_id} {name}".encode()))
        parts.append(torch.randn(len(pair.response), width, generator=generator))
    return torch.nn.functional.normalize(torch.cat(parts), dim=-1).to(device)
