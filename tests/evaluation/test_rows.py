"""Rows on disk: resumed, complete or refused, and the same however they were computed."""

import numpy as np
import pytest
import torch

from midms.evaluation import rows
from midms.evaluation.rows import RowStore, StoredPatches, fill
from midms.metrics import swd


class Numbers(torch.utils.data.Dataset):
    """Sample i is the number i."""

    def __init__(self, count):
        self.count, self.seen = count, []

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        self.seen.append(index)
        return torch.tensor(float(index))


def powers(batch, indices):
    assert batch.tolist() == indices
    return [torch.stack([batch, batch**2], dim=1)]


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_rows_do_not_depend_on_batches(tmp_path, batch_size):
    store = RowStore(tmp_path, "key", 10, 2)
    fill([store], Numbers(10), powers, batch_size, "powers")
    np.testing.assert_array_equal(store.read()[:, 1], np.arange(10) ** 2)
    assert [len(block) for block in store.blocks(4)] == [4, 4, 2]


def test_a_second_run_computes_only_what_is_missing(tmp_path):
    store = RowStore(tmp_path, "key", 6, 2)
    store.write([1, 4], np.ones((2, 2)))
    with pytest.raises(RuntimeError, match="4 of 6"):
        store.read()
    numbers = Numbers(6)
    again = RowStore(tmp_path, "key", 6, 2)
    fill([again], numbers, powers, 2, "powers")
    assert numbers.seen == [0, 2, 3, 5]
    np.testing.assert_array_equal(again.read()[:, 0], [0, 1, 2, 3, 1, 5])
    assert RowStore(tmp_path, "another key", 6, 2).pending() == list(range(6))
    with pytest.raises(ValueError, match="expected rows"):
        store.write([0], np.ones((2, 2)))


def test_ranks_share_the_rows(tmp_path, monkeypatch):
    stores = []
    for rank in (0, 1, 2):
        monkeypatch.setattr(rows, "rank_and_world", lambda rank=rank: (rank, 3))
        monkeypatch.setattr(rows, "barrier", lambda: None)
        store = RowStore(tmp_path, "key", 7, 2)
        assert store.pending() == list(range(rank, 7, 3))
        fill([store], Numbers(7), powers, 2, "powers")
        stores.append(store)
    np.testing.assert_array_equal(stores[0].read()[:, 0], np.arange(7))


def test_stored_patches_give_the_distance_of_those_in_memory(tmp_path):
    images = torch.rand(2, 5, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 255
    directions = swd.random_directions((16, 16), 3, seed=0)
    patches, stored = [], []
    for k, batch in enumerate(images):
        cut = swd.patch_descriptors(batch, range(5), stream=k)[16]
        patches.append(swd.normalise_patches(cut.flatten(0, 1)))
        store = RowStore(tmp_path, str(k), 5, cut[0].numel())
        store.write(range(5), cut.flatten(1).numpy())
        stored.append(StoredPatches(store))
    want = swd.sliced_distance(patches[0], patches[1], directions)
    assert swd.sliced_distance(stored[0], stored[1], directions) == pytest.approx(want, rel=1e-5)
