"""The highest memory of a step, measured: what the device's allocator says, or the process's resident set.

The two are not the same thing, and a row of the log says which one it has by its column's name. On CUDA it is what
tensors took. On a CPU it is what the kernel gave the process: the interpreter, libraries, and blocks that the allocator
keeps for later are in it, so it is an upper bound. ``planning/memory.py`` has the formula for tensors.
"""

import resource
import sys
from pathlib import Path

import torch

CUDA, RESIDENT, LIFETIME = "peak_cuda_bytes", "peak_resident_bytes", "peak_resident_bytes_so_far"


def start_peak(device: torch.device) -> bool:
    """Forget the highest value so far; False where the system cannot."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return True
    try:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: resets VmHWM to what is resident now (proc(5))
    except OSError:
        return False
    return True


def read_peak(device: torch.device, since_start: bool) -> dict[str, int]:
    """Read the bytes under a name that says what they are: since :func:`start_peak` succeeded, or since the process began."""
    if device.type == "cuda":
        return {CUDA: torch.cuda.max_memory_allocated(device)}
    if since_start:
        status = Path("/proc/self/status").read_text()
        return {RESIDENT: int(status.partition("VmHWM:")[2].split()[0]) * 1024}
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {LIFETIME: most if sys.platform == "darwin" else most * 1024}
