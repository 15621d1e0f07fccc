"""Pre-training of organisms: lessons, packing, weights, the card."""

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
