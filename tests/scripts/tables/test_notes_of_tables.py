"""Notes below a table: trainings by name and seed, the networks of its columns, and what the paper has instead."""

from __future__ import annotations

from midms.metrics import fixed_features
from tables.columns import COLUMNS
from tables.notes import column_notes, measurement_notes, paper_notes, training_notes


def test_trainings_are_named_with_their_seeds():
    infos = [("demo", {"stage": "MIDMsTraining", "steps": 60}), ("gan", {"stage": "Other", "steps": 9, "seed": 3})]
    (note,) = training_notes(infos)
    assert "demo (MIDMsTraining, the last training 60 steps, seed not recorded)" in note
    assert "gan (Other, the last training 9 steps, seed 3)" in note and note.startswith("One training each")


def test_networks_are_named_where_their_columns_are():
    assert column_notes({"psnr"}, 4) == []
    fixed = column_notes({"colour_fixed"}, 4)
    assert len(fixed) == 1 and fixed_features.NAME in fixed[0]
    assert any(note.startswith("-E:") for note in column_notes({"colour_encoder"}, 4))
    assert any("biased upwards" in note for note in column_notes({"fd_fixed_reference"}, 4))


def test_what_was_not_measured_has_its_reason():
    notes = measurement_notes(4, "faces", 2, {"fid": "no file"})
    assert notes == ["4 pairs of faces; errors are standard errors over 2 seeds", "fid was not measured: no file"]


def test_a_drawn_benchmark_is_never_like_the_paper():
    (note,) = paper_notes(2993, (256, 256), "paper", "CelebA-HQ", drawn=True)
    assert note.endswith("drawn pictures instead of CelebA-HQ")
    assert paper_notes(2993, (256, 256), "paper", "CelebA-HQ", drawn=False) == []


def test_columns_have_keys_and_titles_of_their_own():
    assert len({column.key for column in COLUMNS}) == len({column.title for column in COLUMNS}) == len(COLUMNS)
