"""One step of a student whose weights are sharded (FSDP2) over the processes that torchrun starts; see test_parallel.py.

Prints nothing and exits with 0 if losses, gradients and responses are those of one process with whole weights.
"""

import copy

import torch
from games import Uneven
from steps import batch, pair, reader
from tiny import tiny
from torch import distributed
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from cr_interp.models.generation import Decoding
from cr_interp.models.loading import Loaded
from cr_interp.views import render
from training.objectives import arm_terms
from training.run import parallel
from training.run.episodes import Episodes
from training.run.losses import Whole
from training.run.rollouts import LocalRollouts
from training.run.step import Prompt, Reader
from training.settings import Training

parallel.join()
rank, n = distributed.get_rank(), parallel.processes()
student, teacher = pair()
prompts, responses = batch(rows=4)
whole = Whole.of(responses)
plain = copy.deepcopy(student.model)
made = reader(student, teacher)
expected = made.losses(student.model, prompts, responses).total
expected.backward()
gradients = {name: p.grad.clone() for name, p in student.model.named_parameters()}
student.model.zero_grad()

parallel.teach_forward(student.model)
for layer in student.model.model.layers:
    fully_shard(layer)
fully_shard(student.model)
assert all(isinstance(p, DTensor) for p in student.model.parameters())
mine = slice(rank * 2, rank * 2 + 2)
# The prefix's keys and values leave a layer beside its output, where FSDP's hooks do not see the gradient come back.
made = Reader(student, teacher, arm_terms("nca"), Training(), 0, 0)
share = parallel.inside(
    student.model, lambda: made.losses(student.model, prompts[mine], responses[mine], whole).total
)
(share * n).backward()
total = parallel.summed({"loss": share.item()}, torch.device("cpu"))["loss"]
assert abs(total - expected.item()) <= 1e-5 * expected.item(), (total, expected)
for name, parameter in student.model.named_parameters():
    found = parameter.grad.full_tensor()
    assert (found - gradients[name]).norm() <= 1e-5 * gradients[name].norm() + 1e-7, name

# Decoding gathers a layer's weights for every token, so the processes go on for as long as one of them has to.
student.model.eval()
asked = [prompt.no_context for prompt in prompts]
rollouts = LocalRollouts(Decoding(8, 1.0), seed=0)
here = rollouts.sample(student, asked[mine], 3, range(rank * 2, rank * 2 + 2))
there = rollouts.sample(Loaded("whole", plain, student.tokenizer), asked, 3)
assert here == there[mine]

# Of two turns only the second process has something to play: the first takes part with nothing to say.
student = tiny("llama")
game = Uneven()
examples = game.examples("train", 4)
context = game.contexts(len)["exact"]
plain = Loaded("whole", copy.deepcopy(student.model), student.tokenizer)
episodes = Episodes(
    game,
    examples,
    lambda text, example: Prompt(text, render(student.tokenizer, text), render(student.tokenizer, text, context)),
    4,
)
parallel.teach_forward(student.model)
for layer in student.model.model.layers:
    fully_shard(layer)
fully_shard(student.model)
rows = range(rank * 2, rank * 2 + 2)
rollouts = LocalRollouts(Decoding(4, 1.0), seed=0, prefix_length=0)
here = episodes.play(student, rollouts, rows, 3, rows)
assert [len(pairs) for pairs in here] == ([1, 1] if rank == 0 else [3, 3])
assert here == episodes.play(plain, rollouts, range(4), 3)[mine]
