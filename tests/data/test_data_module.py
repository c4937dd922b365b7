"""Loaders of a training: what each rank reads, where a resumed one goes on, and what a checkpoint keeps."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import Dataset, RandomSampler, SequentialSampler

from midms.data.module import DataModule, ShardSampler, StepSampler, data_of, length_of


class Numbers(Dataset[dict[str, object]]):
    """Items 0, 1, ...; with `views` the number of the draw belongs to an item."""

    def __init__(self, length: int, names: bool = False, views: bool = False) -> None:
        self.length, self.draws_views = length, views
        if names:
            self.names = [f"photo {index}" for index in range(length)]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, object]:
        index, draw = key if isinstance(key, tuple) else (key, -1)
        return {"index": index, "draw": draw}


def module(length: int = 7, batch_size: int = 2, validation: int = 5, rank: int = 0, ranks: int = 1, steps: int = 6,
           **of_data: bool) -> DataModule:  # fmt: skip
    data = DataModule(Numbers(length, **of_data), Numbers(validation) if validation else None, batch_size, seed=3)
    data.trainer = SimpleNamespace(max_steps=steps, global_rank=rank, world_size=ranks)
    return data


def read(data: DataModule) -> list[list[int]]:
    return [batch["index"].tolist() for batch in data.train_dataloader()]


def test_a_training_reads_a_batch_per_step_and_each_item_once_an_epoch():
    batches = read(module(steps=7))
    assert [len(batch) for batch in batches] == [2] * 7
    order = [index for batch in batches for index in batch]
    assert sorted(order[:7]) == sorted(order[7:]) == list(range(7)) and order[:7] != order[7:]


@pytest.mark.parametrize("used", [0, 1, 4, 6])
def test_a_resumed_training_reads_just_the_batches_that_were_left(used):
    whole, data = read(module()), module()
    for _ in range(used):
        data.advance()
    resumed = module()
    resumed.load_state_dict(data.state_dict())
    assert data.state_dict() == {"batches_seen": used, "samples_seen": 2 * used}
    assert read(resumed) == whole[used:]


def test_another_batch_size_goes_on_after_the_samples_that_were_seen():
    whole = [index for batch in read(module(steps=12)) for index in batch]
    state = {"batches_seen": 3, "samples_seen": 6}
    resumed = module(batch_size=3, steps=5)
    resumed.load_state_dict(state)
    assert read(resumed) == [whole[6:9], whole[9:12]], "two of five steps are left"


def test_an_older_checkpoint_counts_batches_of_the_present_size():
    data = module(ranks=2)
    data.load_state_dict({"batches_seen": 3})
    assert data.samples_seen == 3 * 2 * 2


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_read_different_items_that_together_are_the_order_of_one(ranks):
    shares = [[index for batch in read(module(rank=rank, ranks=ranks)) for index in batch] for rank in range(ranks)]
    together = [index for step in zip(*shares, strict=True) for index in step]
    alone = module(steps=6 * ranks)
    assert together == [index for batch in read(alone) for index in batch]


def test_a_data_set_that_draws_views_is_told_the_epoch():
    batches = list(module(length=4, views=True, steps=4).train_dataloader())
    assert [batch["draw"].tolist() for batch in batches] == [[0, 0], [0, 0], [1, 1], [1, 1]]
    assert {int(draw) for batch in module().train_dataloader() for draw in batch["draw"]} == {-1}


def test_validation_is_read_in_order_and_shared_out():
    assert [batch["index"].tolist() for batch in module().val_dataloader()] == [[0, 1], [2, 3], [4]]
    shares = [module(rank=rank, ranks=2).val_dataloader() for rank in (0, 1)]
    read_by = [[index for batch in loader for index in batch["index"].tolist()] for loader in shares]
    assert read_by == [[0, 2, 4], [1, 3]]
    assert module(validation=0).val_dataloader() == []


def test_more_ranks_than_items_give_the_last_item_to_the_others():
    assert [list(ShardSampler(2, rank, 4)) for rank in range(4)] == [[0], [1], [1], [1]]
    assert [len(ShardSampler(5, rank, 2)) for rank in range(2)] == [3, 2]


def test_the_present_batch_is_named_by_the_best_name_there_is():
    data = module(names=True)
    assert data.items_of({"name": ["a", "b"]}) == ["a", "b"]
    first, second = read(data)[:2]
    assert data.items_of({}) == [f"photo {index}" for index in first]
    data.advance()
    assert data.items_of({}) == [f"photo {index}" for index in second]
    assert module().items_of({}) == [f"item {index}" for index in first]
    assert module(views=True).items_of({}) == [f"item {index}" for index in first], "the draw is no part of a name"


def test_empty_sets_are_refused_by_their_names():
    with pytest.raises(ValueError, match="the training set is empty"):
        DataModule(Numbers(0))
    with pytest.raises(ValueError, match="the validation set is empty"):
        DataModule(Numbers(2), Numbers(0))


def test_the_order_follows_the_seed_alone():
    torch.manual_seed(1)
    first = list(StepSampler(20, 20, seed=5))
    torch.manual_seed(2)
    assert list(StepSampler(20, 20, seed=5)) == first != list(StepSampler(20, 20, seed=6))
    assert list(StepSampler(20, 20, seed=6)) == list(StepSampler(20, 40, seed=5))[20:], "an epoch adds one to the seed"


def test_a_sampler_whose_samples_are_used_up_yields_nothing():
    assert list(StepSampler(5, 4, start=4)) == [] and list(StepSampler(5, 4, start=8, used=9)) == []
    assert len(StepSampler(5, 4, start=4)) == 4, "the length is that of the whole training"


def test_no_torch_sampler_takes_the_place_of_ours():
    data = module()
    assert isinstance(data.train_dataloader().sampler, StepSampler)
    assert not isinstance(data.val_dataloader().sampler, RandomSampler | SequentialSampler)
    assert data_of(SimpleNamespace(datamodule=data)) is data and length_of(data.train) == 7
