"""Files of poses as other programs write them: units, scores, frames, and what no picture can hold."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from midms.conditions.keypoints import pose_condition
from midms.conditions.make import ConditionSpec, make_condition, pose_maps
from midms.conditions.poses import main_person, read_json_poses, read_pose_file, read_text_poses, write_text_poses
from midms.config import ConfigError
from midms.io.files import BrokenFileError

SPEC = ConditionSpec(20, 64)


def joints(width: float = 100, height: float = 50, seed: int = 0) -> np.ndarray:
    """18 seen joints, (18, 3), inside of a picture."""
    rng = np.random.default_rng(seed)
    places = rng.uniform(0.1, 0.9, (18, 2)) * (width, height)
    return np.concatenate([places, rng.uniform(0.5, 1, (18, 1))], axis=1)


def written(folder: Path, content: Any, name: str = "w_keypoints.json", encoding: str = "utf-8") -> Path:
    file = folder / name
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding=encoding)
    return file


def person(table: np.ndarray, key: str = "pose_keypoints_2d") -> dict[str, Any]:
    return {key: table.flatten().tolist(), "face_keypoints_2d": None, "person_id": [-1]}


def test_joints_between_0_and_1_are_shares_of_the_canvas(tmp_path: Path) -> None:
    pixels = joints(100, 50)
    shares = pixels / (100, 50, 1)
    file = written(tmp_path, {"people": [person(shares)], "canvas_width": 100, "canvas_height": 50})
    np.testing.assert_allclose(read_json_poses(file), [pixels])
    np.testing.assert_allclose(read_json_poses(file, (200, 100)), [pixels * (2, 2, 1)])
    made = make_condition(file, SPEC)
    assert made.size == (50, 100) and (made.maps == pose_maps(pixels, (100, 50), 64)).all() and not made.note
    assert made.maps[:3].any(dim=0).sum() > 100


def test_joints_between_0_and_1_without_a_size(tmp_path: Path) -> None:
    file = written(tmp_path, {"people": [person(joints(1, 1))]})
    with pytest.raises(BrokenFileError, match="between 0 and 1 without canvas_width"):
        read_json_poses(file)
    np.testing.assert_allclose(read_json_poses(file, (64, 64)), [joints(64, 64)])
    made = make_condition(file, SPEC)
    assert made.size == (64, 64) and "--condition-size" in made.note
    assert make_condition(file, SPEC, canvas=(200, 100)).size == (100, 200)


def test_joints_between_minus_1_and_1_are_refused(tmp_path: Path) -> None:
    file = written(tmp_path, {"people": [person(joints(1, 1) * (2, 2, 1) - (1, 1, 0))]})
    with pytest.raises(BrokenFileError, match="--keypoint_scale 4"):
        read_json_poses(file)


def test_pixels_belong_to_the_canvas_that_the_file_names(tmp_path: Path) -> None:
    """Annotated at half the size of the photo, which lies beside the file with an ending in capitals."""
    content = {"people": [person(joints(100, 50))], "canvas_width": 100, "canvas_height": 50}
    file = written(tmp_path, content)
    assert make_condition(file, SPEC).size == (50, 100)
    Image.new("RGB", (200, 100)).save(tmp_path / "w.PNG")
    made = make_condition(file, SPEC)
    assert made.size == (100, 200) and (made.maps == pose_maps(joints(200, 100), (200, 100), 64)).all()
    del content["canvas_width"]
    assert make_condition(written(tmp_path, content), SPEC).size == (100, 200)  # half a canvas is none


@pytest.mark.parametrize("scale", [1, -1])
def test_text_files_in_shares_are_refused(tmp_path: Path, scale: int) -> None:
    write_text_poses(tmp_path / "a", [joints(scale, 1)])
    with pytest.raises(BrokenFileError, match=r"a_candidate\.txt: joints between -1 and 1; expected pixels"):
        make_condition(tmp_path / "a_subset.txt", SPEC, canvas=(100, 50))


def test_joints_outside_of_the_picture_are_noted(tmp_path: Path) -> None:
    """As where its size is wrong; an unseen joint is not outside."""
    table = joints(100, 50)
    table[0], table[1, 2] = (60, 60, 1), 0
    content = {"people": [person(table)], "canvas_width": 100, "canvas_height": 50}
    file = written(tmp_path, content)
    assert "1 of 17 joints lie outside of the picture of 100 x 50 pixels" in make_condition(file, SPEC).note
    del content["canvas_width"]
    assert "lie outside" not in make_condition(written(tmp_path, content), SPEC, canvas=(100, 60)).note


@pytest.mark.parametrize("place", [(0, 0), (-1, -1)])
@pytest.mark.parametrize("score", [1.0, 0.0])
def test_the_places_that_stand_for_not_found_are_unseen(tmp_path: Path, place: tuple[int, int], score: float) -> None:
    table = joints()
    table[3] = (*place, score)
    (found,) = read_json_poses(written(tmp_path, {"people": [person(table)]}))
    assert np.isnan(found[3]).all() and not np.isnan(np.delete(found, 3, axis=0)).any()
    (tmp_path / "c.txt").write_text("\n".join(f"{x} {y} {s} {k}" for k, (x, y, s) in enumerate(table)))
    (tmp_path / "s.txt").write_text(" ".join(map(str, [*range(18), 9, 18])))
    (found,) = read_text_poses(tmp_path / "c.txt", tmp_path / "s.txt")
    assert np.isnan(found[3]).all() or score == 0


def test_people_without_joints_are_left_out(tmp_path: Path) -> None:
    people = [[], None, {"pose_keypoints_2d": []}, {"pose_keypoints_2d": None}, {}, person(joints())]
    file = written(tmp_path, {"people": people})
    np.testing.assert_allclose(main_person(read_json_poses(file), file), joints())
    file = written(tmp_path, {"people": people[:-1]})
    with pytest.raises(ConfigError, match="no person with a joint"):
        make_condition(file, SPEC)


def test_one_frame_of_a_list_the_old_key_and_a_byte_order_mark(tmp_path: Path) -> None:
    for content in (
        [{"people": [person(joints())], "canvas_width": 100, "canvas_height": 50}],
        {"version": 1.1, "people": [person(joints(), "pose_keypoints")]},
        json.dumps({"people": [person(joints())]}),
    ):
        np.testing.assert_allclose(read_json_poses(written(tmp_path, content, encoding="utf-8-sig")), [joints()])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([{"people": []}, {"people": []}], "a list of 2 frames; expected one"),
        ([], "a list of 0 frames"),
        ({"people": {}}, "people"),
        ({"persons": []}, "people"),
        ("[" * 100_000, "not readable as JSON"),
        ("", "not readable as JSON|0 bytes"),
        ({"people": [{"pose_keypoints_2d": [1, 2, 3]}]}, "3 numbers for a person; expected 54 or 75"),
        ({"people": [{"pose_keypoints_2d": ["x"] * 54}]}, "people.0.pose_keypoints_2d"),
        ('{"people": [{"pose_keypoints_2d": [NaN' + ", 1" * 53 + "]}]}", "NaN"),
        ({"people": [{"pose_keypoints_2d": [1e12, 3, 1] + [5, 5, 1] * 17}]}, "joint nose at .1e.12, 3.; expected"),
        ({"people": [], "canvas_width": -3, "canvas_height": 4}, "canvas_width"),
        ("null", "not an OpenPose file"),
    ],
)
def test_what_no_pose_file_holds_is_told_in_one_line(tmp_path: Path, content: Any, words: str) -> None:
    with pytest.raises(BrokenFileError, match=words) as caught:
        read_pose_file(written(tmp_path, content))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400 + len(str(tmp_path))


def test_a_joint_far_away_in_a_text_file_is_refused_too(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("1e12 3 1 0")
    (tmp_path / "s.txt").write_text(" ".join(["0", *["-1"] * 17, "1", "1"]))
    with pytest.raises(BrokenFileError, match="joint nose"):
        read_text_poses(tmp_path / "c.txt", tmp_path / "s.txt")
    table = np.full((18, 2), 5.0)
    table[2] = 5, -np.inf
    with pytest.raises(ValueError, match="joint r_shoulder"):
        pose_condition(table, 8, 8)


def test_a_limb_outside_of_the_picture_is_absent() -> None:
    table = np.full((18, 2), np.nan)
    table[2], table[3] = (200, 200), (220, 230)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        maps = pose_condition(table, 64, 64, pixel=4.0)
    assert not maps[:3].any() and (maps[3:] == 255).all()
