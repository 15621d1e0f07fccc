"""What a run will need: memory, arithmetic, hours. From the configuration alone.

Mental model: ``plan.py`` puts together what the others know: the model's shape (``architecture.py``), bytes on each GPU
(``memory.py``), operations (``work.py``), hours on published numbers (``duration.py``), and what is missing on this machine
(``at_hand.py``). ``plan_report.py`` prints it. Nothing is downloaded or loaded.
"""
