"""Tasks in English for small real models: reviews (``sentiment.py``, with reasons ``explained.py``), word classes
(``wordclass.py``).

Mental model: the context is a few solved examples, the prompt one phrase or word, the answer one label. The phrases themselves,
training and test, are in the YAML file beside each task; ``labels.py`` reads and grades what is answered.
"""
