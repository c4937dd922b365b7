"""Which rows the tables have, and the paper's own numbers beside them."""

from __future__ import annotations

from pathlib import Path

import pytest

from midms.diffusion.settings import InterleaveSettings
from midms.evaluation import benchmark
from tables.published import FULL, OURS, OWN_TITLES, TITLES, published
from tables.rows import ABLATIONS, AXES, COMPARISONS, exemplar_counts, plans
from tables.sampling import Plan

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
TABLES = [*TITLES, *OWN_TITLES]
SETTINGS = InterleaveSettings.paper()


@pytest.mark.parametrize("truth", [True, False])
@pytest.mark.parametrize("table", TABLES)
def test_rows_have_names_of_their_own_and_places_where_the_table_is_a_curve(table: str, truth: bool) -> None:
    rows = plans(table, SETTINGS, truth)
    names = [row.plan.name for row in rows]
    assert len(set(names)) == len(names) >= 3
    assert all((row.x is not None) == (table in AXES) for row in rows)


@pytest.mark.parametrize("table", ["3", "4", "5", "7"])
def test_every_row_that_the_paper_prints_is_measured_under_its_name(table: str) -> None:
    assert set(published(table, "CelebA-HQ")) <= {row.plan.name for row in plans(table, SETTINGS, True)}


def test_differences_are_taken_from_the_method_itself() -> None:
    for table in ("3", "5", "bands", "regions"):
        assert plans(table, SETTINGS, True)[0].plan.name == FULL
    for table in COMPARISONS:
        assert plans(table, SETTINGS, True)[0].plan.name == OURS


def test_comparisons_have_one_time_matching_and_both_kinds_of_bounds() -> None:
    for table in COMPARISONS:
        methods = [row.plan.method for row in plans(table, SETTINGS, True)]
        assert methods[:2] == [benchmark.full_method, benchmark.one_time_matching]
        assert {benchmark.exemplar_itself, benchmark.mean_part_colours, benchmark.autoencoded_truth} <= set(methods)
        assert benchmark.autoencoded_truth not in [row.plan.method for row in plans(table, SETTINGS, False)]


def test_only_rows_made_from_condition_and_exemplar_have_a_diversity() -> None:
    counted = {row.plan.name for row in plans("1", SETTINGS, True) if exemplar_counts(row.plan)}
    assert counted == {OURS, "one-time matching", "first warp", "exemplar itself"}


def test_bounds_that_need_the_truth_are_left_out_without_it() -> None:
    with_truth = {row.plan.method for row in plans("3", SETTINGS, True)}
    without = {row.plan.method for row in plans("3", SETTINGS, False)}
    assert with_truth - without == {
        benchmark.autoencoded_truth,
        benchmark.mean_part_colours,
        benchmark.true_latent_warp,
        benchmark.autoencoded_true_warp,
    }


def test_noise_levels_differ_however_few_steps_there_are() -> None:
    """20 to 35 percent of 16 steps would be 3, 4, 5 and 6 with rounding; of 20 they are what they say."""
    for steps, total in ((None, 200), (16, 20), (100, 100)):
        rows = plans("4", SETTINGS, False, steps)
        calls = {row.plan.name: row.plan.settings.num_interleaved_steps for row in rows}
        assert calls == {f"{share} %": round(total * share / 100) for share in (25, 20, 30, 35)}
        assert all(row.plan.settings.num_inference_steps == total for row in rows)


def test_the_curve_of_rewarps_falls_to_none() -> None:
    rows = plans("rewarp", SETTINGS, False)
    assert [row.x for row in rows] == sorted((row.x for row in rows), reverse=True) and rows[-1].x == 0
    assert all(row.plan.settings.num_interleaved_steps == 50 for row in rows), "as many calls of the U-Net in each"


def test_a_tables_settings_keep_what_they_do_not_vary() -> None:
    released = InterleaveSettings.released()
    for table in ("4", "7", "rewarp"):
        for row in plans(table, released, False):
            assert row.plan.settings.mask_form == "released" and row.plan.settings.clamp_cosines


def test_every_trained_row_has_its_config() -> None:
    for table, configs in ABLATIONS.items():
        assert set(configs) == set(published(table, "CelebA-HQ"))
        for name in configs.values():
            assert (CONFIGS / "ablations" / f"{name}.yaml").is_file(), name


def test_rows_that_no_exemplar_changes_have_no_diversity() -> None:
    assert exemplar_counts(Plan("x", benchmark.full_method, SETTINGS))
    assert exemplar_counts(Plan("x", benchmark.exemplar_itself, SETTINGS))
    assert not exemplar_counts(Plan("x", benchmark.other_style, SETTINGS))
    assert not exemplar_counts(Plan("x", benchmark.autoencoded_source, SETTINGS))


def test_the_papers_numbers_are_those_of_its_text() -> None:
    table = published("1", "CelebA-HQ")
    assert table[OURS] == {
        "fid_reference": 15.67, "swd_average": 12.34, "lpips_diversity": 0.224, "fid_exemplars": 10.67,
    }  # fmt: skip
    assert published("1", "DeepFashion")[OURS]["fid_reference"] == 10.89
    assert "lpips_diversity" not in table["Pix2pixHD"], "a blank cell is no number"
    assert published("2", "CelebA-HQ")[OURS] == {"colour": 0.982, "texture": 0.962, "semantic": 0.915}
    assert published("3", "CelebA-HQ")["no diffusion"] == {"fid_reference": 128.70, "swd_average": 34.59}
    assert published("4", "CelebA-HQ")["25 %"] == {"fid_reference": 15.67}
    assert published("7", "CelebA-HQ")["T = 16, N = 4"] == {"fid_reference": 17.94, "swd_average": 13.99}


def test_no_numbers_are_made_up_where_the_paper_has_none() -> None:
    for table in ("2", "3", "4", "5", "7"):
        assert published(table, "DeepFashion") == {}
    for table in OWN_TITLES:
        assert published(table, "CelebA-HQ") == {}
    with pytest.raises(ValueError, match="data set 'LSUN': the paper's tables are of DeepFashion and CelebA-HQ"):
        published("1", "LSUN")


def test_one_setting_is_one_number_in_every_table() -> None:
    """The full method, T = 200 and N = 50, a noise level of 25 %: printed four times, once for each table."""
    rows = {"1": OURS, "3": FULL, "4": "25 %", "5": FULL, "7": "T = 200, N = 50"}
    assert {published(table, "CelebA-HQ")[name]["fid_reference"] for table, name in rows.items()} == {15.67}
