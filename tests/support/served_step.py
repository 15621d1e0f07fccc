"""Rollouts of two processes from one server, which the first of them speaks with; see test_vllm_rollouts.py.

Prints nothing and exits with 0 if both get what the server answers to all prompts together, with the student's weights whole
and in shards, and if both are told that it is gone.
"""

import copy
from contextlib import nullcontext

import pytest
import torch
from games import Uneven
from tiny import tiny
from torch import distributed
from torch.distributed.fsdp import fully_shard
from vllm_stand_in import StandIn, client, serving

from cr_interp.models.generation import Decoding, generate, noise
from cr_interp.models.loading import Loaded
from cr_interp.views import render
from training.run import parallel
from training.run.episodes import Episodes
from training.run.rollouts import RolloutsLost
from training.run.step import Prompt
from training.run.vllm_rollouts import ServerRollouts

PROMPTS = [[3, 40, 41, 42], [3, 50, 51], [3, 60], [3, 61, 62]]
SAMPLED = Decoding(6, 1.0)

parallel.join()
rank = distributed.get_rank()
mine = PROMPTS[rank * 3 : rank * 3 + 3]  # three prompts, and one
student = tiny()
stand_in = StandIn(copy.deepcopy(student))


def changed(seed: int) -> None:
    with torch.no_grad():
        for parameter in student.model.parameters():
            parameter.add_(0.5 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)))


def expected() -> list:
    whole = Loaded("whole", copy.deepcopy(student.model), student.tokenizer)
    return generate(whole, PROMPTS, SAMPLED, noise(0, range(4), 6))[rank * 3 : rank * 3 + 3]


with serving(stand_in) if rank == 0 else nullcontext(), pytest.MonkeyPatch.context() as patch:
    server = client(patch, stand_in) if rank == 0 else None
    ask = ServerRollouts(server, SAMPLED, attempts=2, pause=0.0)
    changed(1)
    assert ask.sample(student, mine, 0) == expected()
    changed(2)
    after = expected()
    for layer in student.model.model.layers:
        fully_shard(layer)
    fully_shard(student.model)
    assert ask.sample(student, mine, 1) == after
    if rank == 0:
        assert stand_in.asked.count("/update_weights") == stand_in.asked.count("/v1/completions") == 2

    # Of two turns only the second process has something to play: the first has to ask as often.
    game = Uneven()
    context = game.contexts(len)["exact"]
    episodes = Episodes(
        game,
        game.examples("train", 4),
        lambda text, example: Prompt(
            text, render(student.tokenizer, text), render(student.tokenizer, text, context)
        ),
        4,
    )
    rows = range(rank * 2, rank * 2 + 2)
    assert [len(pairs) for pairs in episodes.play(student, ask, rows, 2, rows)] == ([1, 1], [3, 3])[rank]

    stand_in.failing = -1
    with pytest.raises(RolloutsLost, match="start it again"):
        ask.sample(student, mine, 3)
    parallel.wait()
