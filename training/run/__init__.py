"""One run: student, teacher, rollouts, a step, the Trainer around it.

Mental model, in the order of a step: ``rollouts.py`` lets the student answer without the context (``episodes.py`` in turns,
``vllm_rollouts.py`` by a server), ``step.py`` reads those answers in both views, ``head.py`` and ``losses.py`` make the arm's
terms of them, ``trainer.py`` is the loop, ``distill.py`` begins or continues a run on its ``prompts.py``, and ``made_of.py``
tells whether it may.

``lora``, ``precision``, ``recompute``, ``parallel``, ``peak``, ``noise``, ``cores``, ``plateau`` and ``checkpoints`` each hold
one concern of that loop. ``subject.py`` is what a configuration trains on, ``gradients.py`` an analysis of its terms' gradients.
"""
