"""Pre-training of organisms: lessons, packing, weights, the card.

Mental model: ``curriculum.py`` writes lessons (a context and a few questions that it answers), ``pack.py`` makes tensors of them,
``organism.py`` says what the model is made of, ``pretrain.py`` trains it and can be stopped (``pretrain_state.py``), ``card.py``
says how well it follows
contexts that it has not seen.
"""

#: organism → the architecture and its width. The large one is the teacher of the cross-size settings.
ORGANISMS: dict[str, tuple[str, int]] = {
    "llama": ("llama", 112),
    "qwen3": ("qwen3", 112),
    "gemma2": ("gemma2", 112),
    "gpt-neox": ("gpt_neox", 112),
    "qwen3-large": ("qwen3", 160),
    "qwen3-lakes": ("qwen3", 112),
    "qwen3-lakes-large": ("qwen3", 160),
}
#: organism → the one from whose weights it goes on, to larger lakes.
GOES_ON = {"qwen3-lakes": "qwen3", "qwen3-lakes-large": "qwen3-large"}
