"""The baseline in the tables of methods: only weights for pictures of one size are compared."""

from __future__ import annotations

import pytest

from midms.config import ConfigError
from midms.evaluation.tables import Row, Table
from midms.io.provenance import shipped_names
from tables.baseline import gan_weights, note_absent_gan, rows_of_gan
from tables.tasks import TASKS, default_weights


@pytest.fixture
def shipped_at_64(monkeypatch):
    """Shipped weights of 64 pixels in the place of the baseline's, whatever their kind."""
    monkeypatch.setitem(TASKS, "faces", TASKS["faces"]._replace(gan="demo-64"))


def test_shipped_weights_are_compared_at_their_own_size_only(shipped_at_64):
    assert gan_weights("faces", None, "demo-64", 64) == "demo-64"
    assert gan_weights("faces", None, "demo", 128) is None
    assert gan_weights("faces", None, "own", None) == "demo-64", "a size that is not recorded is not refused"
    assert gan_weights(None, None, "own", 64) is None, "nothing is shipped for other pairs"


def test_given_weights_for_another_size_are_a_mistake():
    assert gan_weights("faces", "demo-64", "demo-64", 64) == "demo-64"
    message = "--gan: demo-64 is made for 64 pixels, but --weights demo for 128; give two of one size"
    with pytest.raises(ConfigError, match=message):
        gan_weights("faces", "demo-64", "demo", 128)


def test_empty_rows_say_what_to_compare_with(shipped_at_64):
    table = Table("8", "title", [], [Row("MIDMs"), Row("first warp")])
    note_absent_gan("faces", "demo", table)
    assert [row.name for row in table.rows][1:3] == [
        "matching GAN (of another size)",
        "matching GAN, iterated (of another size)",
    ]
    assert table.notes[-1].endswith("demo-64 is made for another size than demo; compare with --weights demo-64")


@pytest.mark.parametrize("benchmark", sorted(TASKS))
def test_default_weights_of_a_run(benchmark):
    task = TASKS[benchmark]
    assert default_weights(benchmark, ["3"]) == task.weights == default_weights(benchmark, ["1", "3"])
    assert default_weights(benchmark, ["8", "1"]) == task.beside_gan
    assert {task.weights, task.beside_gan} <= set(shipped_names())


def test_the_shipped_baseline_is_compared_by_default():
    weights = default_weights("faces", ["1", "2", "8", "9"])
    assert gan_weights("faces", None, weights, 64) == "demo-gan" in shipped_names()
    (row, name), (again, _) = rows_of_gan("faces", "demo-gan")
    assert name == "demo-gan"
    assert [one.plan.settings.num_interleaved_steps for one in (row, again)] == [1, 2]
