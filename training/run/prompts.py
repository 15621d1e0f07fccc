"""The prompts of a run in both views, rendered once for all runs of a process that have the same ones.

Mental model. The rates of a grid, and the arms of a study, read the same prompts: what a run is made of (``made_of.py``) says
which they are. Of a short run on a small model an eighth of the time goes into templates and tokenizers, so a few are kept.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence

from cr_interp.system.digests import Parts, digest_of
from cr_interp.tasks.base import Example
from training.run.step import Prompt

#: Seeds that a grid has, usually.
KEPT = 4
#: Parts of a run that its prompts do not depend on; nor do they on any that begins with ``training.``.
_BESIDE = ("objective", "seed", "validation data", "teacher", "threads")

_kept: "OrderedDict[str, list[Prompt]]" = OrderedDict()


def rendered(
    parts: Parts | None, examples: Sequence[Example], render: Callable[[str, Example], Prompt]
) -> list[Prompt]:
    """Return the examples' prompts. ``parts`` are the run's (:meth:`~training.run.made_of.Making.run`); None keeps nothing."""
    if parts is None:
        return [render(example.prompt, example) for example in examples]
    own = {
        name: value for name, value in parts.items() if not name.startswith("training.") and name not in _BESIDE
    }
    key = digest_of(own)
    if key not in _kept:
        _kept[key] = rendered(None, examples, render)
    _kept.move_to_end(key)
    while len(_kept) > KEPT:
        _kept.popitem(last=False)
    return _kept[key]
