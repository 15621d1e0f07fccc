"""What a layer gets from these caches depends on what it hands in alone, as often as it runs."""

import torch

from cr_interp.models.prefix_cache import WriteLayer, reading, recording


def keys_values(length, batch=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 2, length, 4, generator=generator), torch.randn(
        batch, 2, length, 4, generator=generator
    )


def test_a_prefix_is_recorded_once():
    cache = recording()
    k, v = keys_values(5)
    for _ in range(2):
        assert all(torch.equal(*pair) for pair in zip(cache.update(k, v, 0), (k, v), strict=True))
    assert torch.equal(cache.layers[0].keys, k)
    assert torch.equal(cache.layers[0].values, v)


def test_a_prefix_is_read_and_does_not_grow():
    prefix, (k, v) = [keys_values(5), keys_values(5, seed=1)], keys_values(2, batch=3)
    cache = reading(prefix, 3)
    for _ in range(2):
        keys, values = cache.update(k, v, 1)
        assert torch.equal(keys, torch.cat([prefix[1][0].expand(3, -1, -1, -1), k], dim=-2))
        assert torch.equal(values, torch.cat([prefix[1][1].expand(3, -1, -1, -1), v], dim=-2))
        assert cache.get_seq_length() == 5
    assert (
        cache.layers[1].keys.untyped_storage().nbytes() == prefix[1][0].untyped_storage().nbytes()
    )  # not copied


def test_what_lies_ready_is_written_behind_and_overwritten_by_the_next_run():
    prefix, own = keys_values(5), keys_values(3, batch=2, seed=1)
    parts = [tuple(each.expand(2, -1, -1, -1) for each in prefix), own]
    layer = WriteLayer(parts, 4)
    for seed, length in ((2, 4), (3, 4), (4, 2)):
        newest = keys_values(length, batch=2, seed=seed)
        for found, *every in zip(layer.update(*newest), *parts, newest, strict=True):
            assert torch.equal(found, torch.cat(every, dim=-2))
        assert layer.get_seq_length() == 8
