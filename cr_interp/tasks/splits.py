"""Which split a prompt belongs to, decided by a hash of it: disjoint by construction, the same on every machine."""

import hashlib

from cr_interp.tasks.base import Split


def split_of(what: str) -> Split:
    """Choose a prompt's split: 70 % of all prompts are for training, 10 % for validation, 20 % for testing."""
    share = int.from_bytes(hashlib.blake2b(what.encode(), digest_size=2).digest(), "big") / 2**16
    return "train" if share < 0.7 else "validation" if share < 0.8 else "test"
