"""Lens: what the model would say if it stopped after a layer, in both views.

Mental model. The model's own final norm and head are put on the stream behind every layer, and on the embedding, at the place
where the two answers part. They say how likely the tokens of the right and of the wrong answer are there, at which rank each
is, and how far apart the two views' distributions are (KL, without ‖ with). Of answers that do not part (``kept``), it is the
answer's own token, averaged over the answer. After the last layer the lens is the model itself. What it shows of earlier
layers is what later ones could read off linearly, which need not be what they do read.

Control: the same tokens in another example's state at the same place; for the KL, this example's state without the context
against another example's. A layer at which the right token is no likelier than there says nothing about this example.

``transformer_lens.tools.analysis.logit_readout`` does the same to one tensor; here both views share prefixes and places.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from cr_interp.capture.sites import Site, hook_point, residual_sites
from cr_interp.errors import UserError
from cr_interp.mechanism.batches import VIEWS, Batch, Views, says_exhausted
from cr_interp.mechanism.given import Answers, Pair
from cr_interp.mechanism.means import means
from cr_interp.mechanism.runs import States
from cr_interp.models.forward import log_probs, unwrap
from cr_interp.models.loading import Loaded
from cr_interp.statistics import clopper_pearson

CONTROLS = ("none", "other")
#: Distributions that are held at a time, of each view: a vocabulary is wide.
CHUNK = 256
#: Bytes of states that are held at a time, in both views together.
HELD = 1 << 28
#: Examples of each group of which every token is kept; of the others only the place where the answers part.
WHOLE = 16
#: … and at most so many tokens of each.
TOKENS = 64
FINAL = Site("final", -1)


def rows(given: Answers) -> dict[str, pd.DataFrame]:
    """Compute the tables ``lens_examples`` and ``lens`` of one checkpoint."""
    options = given.options
    found = lens_of(
        given.loaded, given.pairs, batch_size=options.batch_size, backend=options.backend, progress=given.progress
    )
    return {"lens_examples": found[found["kept"]].drop(columns=["kept", "used"]), "lens": lens_estimates(found)}


def read_off(
    model: nn.Module, states: States, jacobian: Float[Tensor, "width width"] | None = None
) -> Float[Tensor, "token vocabulary"]:
    """Compute float32 log-probabilities that the model's final norm and head give states of its stream.

    ``jacobian`` first carries the states to what the last block would make of them (a Jacobian lens's matrix of this layer).
    Raises :class:`UserError` for a model whose final norm is not known.
    """
    norm = hook_point(model, FINAL).module
    weight = next(iter(norm.parameters()), None)
    if jacobian is not None:
        states = (states.float() @ jacobian.to(states.device).T).to(states.dtype)
    placed = states if weight is None else states.to(weight.device)
    head = unwrap(model).get_output_embeddings().weight
    return log_probs(model, norm(placed).to(head.device, head.dtype))


@torch.no_grad()
def lens_of(
    loaded: Loaded,
    pairs: Sequence[Pair],
    controls: Sequence[str] = CONTROLS,
    batch_size: int = 64,
    backend: str = "hooks",
    padding: str = "right",
    progress: Callable[[int, int], None] = lambda done, total: None,
    jacobians: Mapping[int, Float[Tensor, "width width"]] | None = None,
) -> pd.DataFrame:
    """Return a row per example, token of its answer, layer, view and control.

    ``jacobians`` (layer → matrix, as ``transformer_lens.tools.analysis.JacobianLens.jacobians`` has them) make it a Jacobian
    lens, of those layers and the last; of the embedding there is none then.

    ``used`` says which rows enter the means, ``kept`` which are worth storing. Examples whose answer is not what the model
    itself decodes greedily are left out.
    """
    sites = residual_sites(loaded.model)
    if jacobians is not None:
        last = sites[-1].layer
        sites = [
            each
            for each in sites
            if each.name == "resid_post" and (each.layer in jacobians or each.layer == last)
        ]
    total, done = len(sites) * sum(len(pair.response) for pair in pairs), 0
    whole = _whole(pairs)
    found: list[pd.DataFrame] = []
    with says_exhausted(batch_size):
        for batch in Views(loaded, pairs, padding, backend).batches(batch_size):  # type: ignore[arg-type]
            usable = batch.usual["no_context"].whole
            asked = _Asked(batch, usable, [whole[i] for i in batch.numbers], jacobians or {})
            for site, states in _states(batch, sites):
                for control in controls:
                    found.append(asked.rows(site, states, control))
                done += len(batch.tokens)
                progress(done, total)
    table = pd.concat(found, ignore_index=True)
    if table.empty:
        raise UserError(
            f"None of {len(pairs)} answers without the context is what {loaded.name} decodes greedily, so there is nothing to "
            f"look at: evaluate the checkpoint again."
        )
    return table


def _states(batch: Batch, sites: Sequence[Site]) -> Iterator[tuple[Site, dict[str, States]]]:
    """Yield every site with its states in both views; those of a few layers are held at a time."""
    weight: Any = batch.loaded.model.get_input_embeddings().weight
    width = int(weight.shape[-1]) * 8  # bytes of a state, in both views
    some = max(1, HELD // (width * batch.held))
    for first in range(0, len(sites), some):
        here = sites[first : first + some]
        states = batch.states(here)
        for site in here:
            yield site, {view: of[site] for view, of in states.items()}


def _whole(pairs: Sequence[Pair]) -> list[bool]:
    """Tell which examples have all their tokens looked at."""
    seen: dict[str, int] = {}
    found = []
    for pair in pairs:
        seen[pair.group] = seen.get(pair.group, 0) + 1
        found.append(pair.place is None or seen[pair.group] <= WHOLE)
    return found


class _Asked:
    """The tokens of a batch's answers that the lens looks at."""

    def __init__(
        self,
        batch: Batch,
        usable: Bool[Tensor, " example"],
        whole: Sequence[bool],
        jacobians: Mapping[int, Float[Tensor, "width width"]],
    ) -> None:
        self.batch, self.model, self.jacobians = batch, batch.loaded.model, jacobians
        self.tokenizer = batch.loaded.tokenizer
        within = torch.arange(len(batch.tokens)) - batch.starts[batch.tokens]
        at = torch.tensor([-1 if p.place is None else p.place for p in batch.pairs])[batch.tokens]
        every = torch.tensor(whole)[batch.tokens] & (within < TOKENS)
        self.chosen = ((within == at) | every).logical_and(usable[batch.tokens]).nonzero()[:, 0]
        self.of = batch.tokens[self.chosen]
        self.position = within[self.chosen]
        self.parts = (within == at)[self.chosen]
        self.own = batch.targets[self.chosen]
        others = [-1 if p.other is None else p.other for p in batch.pairs]
        self.other = torch.where(self.parts, torch.tensor(others)[self.of], torch.tensor(-1))
        has = torch.tensor([partner is not None for partner in batch.partners])[self.of]
        self.partner = torch.where(has, batch.partner_tokens[self.chosen], torch.tensor(-1))
        """The token of another example at the same place, −1: there is none."""

    def rows(self, site: Site, states: dict[str, States], control: str) -> pd.DataFrame:
        """Return rows of one layer. Under ``other`` states are the partner's, except that the KL keeps its first view."""
        has = self.partner >= 0 if control == "other" else torch.ones(len(self.chosen), dtype=torch.bool)
        own, read = self.chosen[has], (self.partner if control == "other" else self.chosen)[has]
        tokens, others = self.own[has], self.other[has]
        numbers: dict[str, dict[str, list[np.ndarray]]] = {view: {} for view in VIEWS}
        carry = self.jacobians.get(site.layer) if site.name == "resid_post" else None
        for first in range(0, len(read), CHUNK):
            here = slice(first, first + CHUNK)
            said = {
                view: read_off(self.model, states[view][read[here].to(states[view].device)], carry)
                for view in VIEWS
            }
            if control == "other":
                base = states["no_context"]
                one = read_off(self.model, base[own[here].to(base.device)], carry)
                apart = _kl(one, said["no_context"])
            else:
                apart = _kl(said["no_context"], said["with_context"])
            for view in VIEWS:
                numbers[view].setdefault("kl", []).append(apart)
                for name, values in _numbers(said[view], tokens[here], others[here]).items():
                    numbers[view].setdefault(name, []).append(values)
        return pd.concat(
            [self._frame(site, view, control, has, numbers[view]) for view in VIEWS], ignore_index=True
        )

    def _frame(
        self, site: Site, view: str, control: str, has: Tensor, numbers: dict[str, list[np.ndarray]]
    ) -> pd.DataFrame:
        pairs = [self.batch.pairs[i] for i in self.of[has].tolist()]
        joined: dict[str, Any] = {name: np.concatenate(values) for name, values in numbers.items()}
        parts = self.parts[has].numpy()
        parted = np.array([pair.place is not None for pair in pairs], dtype=bool)
        return pd.DataFrame(
            {
                "example_id": [p.example_id for p in pairs],
                "cluster": [p.cluster for p in pairs],
                "group": [p.group for p in pairs],
                "position": self.position[has].numpy(),
                "parts": parts,
                "view": view,
                "site": site.name,
                "layer": site.layer,
                "control": control,
                "token": self._texts(self.own[has]),
                "other": self._texts(self.other[has]),
                **{
                    name: joined.get(name, np.zeros(0))
                    for name in ("logprob", "rank", "other_logprob", "other_rank")
                },
                "top": self._texts(torch.as_tensor(joined.get("top", np.zeros(0, dtype=int)))),
                "kl": joined.get("kl", np.zeros(0)),
                "used": parts | ~parted,
                "kept": parts | (control == "none"),
            }
        )

    def _texts(self, ids: Tensor) -> list[str]:
        decode = getattr(self.tokenizer, "decode", None)
        return ["" if i < 0 else str(i) if decode is None else str(decode([i])) for i in ids.tolist()]


def _kl(one: Tensor, other: Tensor) -> Float[np.ndarray, " token"]:
    """Compute KL(one ‖ other) in nats, of log-probabilities."""
    other = other.to(one.device)
    found: np.ndarray = (one.exp() * (one - other)).sum(-1).double().cpu().numpy()
    return found


def _numbers(
    said: Float[Tensor, "token vocabulary"], tokens: Int[Tensor, " token"], others: Int[Tensor, " token"]
) -> dict[str, np.ndarray]:
    found = {"top": said.argmax(-1).cpu().numpy()}
    for name, ids in (("", tokens), ("other_", others)):
        there = ids.clamp(min=0).to(said.device)[:, None]
        mine = said.gather(1, there)
        rank = 1 + (said > mine).sum(-1)
        missing = (ids < 0).numpy()
        found[f"{name}logprob"] = np.where(missing, np.nan, mine[:, 0].double().cpu().numpy())
        found[f"{name}rank"] = np.where(missing, np.nan, rank.double().cpu().numpy())
    return found


#: group → what its answer's own token and the other view's are called.
NAMES = {
    "harmed": ("right", "wrong"),
    "rescued": ("wrong", "right"),
    "kept": ("right", ""),
    "changed": ("without", "with"),
}


def lens_estimates(examples: pd.DataFrame) -> pd.DataFrame:
    """Make rows of ``lens`` from rows of single tokens. Of an answer that does not part its tokens are averaged first.

    ``difference`` is the log-probability of the right token minus that of the wrong one, example by example: what both share
    (how sure the layer is of anything) is out of its interval.
    """
    used = examples[examples["used"]].assign(
        difference=lambda each: (
            (each["logprob"] - each["other_logprob"]) * np.where(each["group"] == "rescued", -1, 1)
        ),
        rank=lambda each: np.log(each["rank"]),
        other_rank=lambda each: np.log(each["other_rank"]),
        first=lambda each: (each["rank"] == 0).astype(float),
        other_first=lambda each: (each["other_rank"] == 0).astype(float),
    )
    values = ["logprob", "rank", "first", "other_logprob", "other_rank", "other_first", "difference", "kl"]
    place = ["group", "view", "site", "layer", "control"]
    each = used.groupby([*place, "example_id", "cluster"], sort=False, as_index=False)[values].mean()
    found = []
    for where, cell in each.groupby(place, sort=False):
        own, other = NAMES[str(where[0])]
        middle, low, high = means(cell[values].to_numpy(float), list(cell["cluster"]))
        for i, name in enumerate(values):
            token = "all" if name in ("kl", "difference") else other if name.startswith("other_") else own
            view = "between" if name == "kl" else where[1]
            if not token or (name == "kl" and where[1] != VIEWS[0]) or (name == "difference" and not other):
                continue
            ends = [float(each[i]) for each in (middle, low, high)]
            if name.endswith("first"):
                ends = [ends[0], *_share_ends(ends[0], ends[1], ends[2], cell["cluster"].nunique())]
            if name.endswith("rank"):
                ends = [float(np.exp(end)) for end in ends]
            found.append(
                {
                    **dict(zip(place, where, strict=True)),
                    "view": view,
                    "token": token,
                    "readout": name.removeprefix("other_"),
                    **dict(zip(("estimate", "low", "high"), ends, strict=True)),
                    "n_examples": len(cell),
                    "n_clusters": cell["cluster"].nunique(),
                }
            )
    return pd.DataFrame(found).astype({"layer": "int32"})


def _share_ends(share: float, low: float, high: float, clusters: int) -> tuple[float, float]:
    """Return the interval of a share: where no draw differs, that of Clopper and Pearson with clusters as trials."""
    if share in (0.0, 1.0):
        return clopper_pearson(share * clusters, clusters)
    return max(low, 0.0), min(high, 1.0)
