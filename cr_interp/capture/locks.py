"""One capture at a time per model.

No backend is safe with two threads on one model: hooks and traces live on the modules themselves, so each would read
the other's states, silently. The lock belongs to the Hugging Face model, so a PEFT wrapper and the model inside it
share theirs.
"""

import threading
from weakref import WeakKeyDictionary

from torch import nn

from cr_interp.models.forward import unwrap

_LOCKS: "WeakKeyDictionary[nn.Module, threading.RLock]" = WeakKeyDictionary()
_LOCKS_LOCK = threading.Lock()


def model_lock(model: nn.Module) -> threading.RLock:
    with _LOCKS_LOCK:
        return _LOCKS.setdefault(unwrap(model), threading.RLock())
