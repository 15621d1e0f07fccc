"""Many runs: a study's arms × seeds, a suite's settings, as jobs side by side.

Mental model: ``pipeline.py`` is a study from its configuration to its tables, ``workers.py`` runs its arms and seeds as processes
(``jobs.py``), ``suite.py`` does so for twelve settings. ``preregistration.py`` is the file of an experiment, ``screening.py`` its
rules of choice, ``screened.py`` what they read, kept; ``preregistered.py`` runs it. Everything can be stopped and continued.
"""
