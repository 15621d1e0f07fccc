"""``cr-interp`` with weights sharded by the library's own FSDP2, on CPU processes; see test_parallel.py.

``accelerate`` shards where there are GPUs only: with processes on the CPU its state asks no further. Here it is told what it
would have found there; all that follows (the model's preparation, the optimizer's, checkpoints) is its own.
"""

import os
import runpy
import sys

from accelerate import state
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

os.environ |= {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
    "FSDP_OFFLOAD_PARAMS": "false",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
}
plain = state.AcceleratorState.__init__


def found_gpus(self, *arguments, fsdp_plugin=None, **options):
    plain(self, *arguments, fsdp_plugin=fsdp_plugin, **options)
    if self.distributed_type == DistributedType.MULTI_CPU:
        self.distributed_type = state.PartialState._shared_state["distributed_type"] = DistributedType.FSDP
        self.fsdp_plugin = fsdp_plugin or FullyShardedDataParallelPlugin()


state.AcceleratorState.__init__ = found_gpus
sys.argv[0] = "cr-interp"
runpy.run_module("cr_interp", run_name="__main__")
