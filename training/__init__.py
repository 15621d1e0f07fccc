"""training: makes the checkpoints that cr_interp looks at. It imports cr_interp, never the other way round.

Mental model: ``settings.py`` is the configuration, ``task_of.py`` its task, ``objectives.py`` what an arm minimises; none loads
torch. ``commands.py`` is what ``cr-interp`` takes from here.

    planning/      what a run will need, before it begins
    run/           one run: one arm with one seed
    studies/       many runs: a study's, a suite's, a preregistration's
    organisms/     pre-training of the small models that settings start from
    integrations/  parts for other people's trainers
    gpu/           what only a GPU can show
"""

import cr_interp  # noqa: F401  # former addresses of modules, as training.config, are answered from there
