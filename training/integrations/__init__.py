"""Parts for other people's trainers. Each imports ``cr_interp`` or the other library, and nothing of ``training``.

    callback   a ``transformers.TrainerCallback``: what happens to a student when its context returns, while it is trained
    trl        No-Context Anchoring as a subclass of TRL's self-distillation trainer

They are imported as ``cr_interp.integrations.callback`` and ``cr_interp.integrations.trl``.

They use ``live.py`` (a study that grows meanwhile), ``asked.py`` (examples in both views) and ``reading.py`` (what a model
says of them at a step).
"""
