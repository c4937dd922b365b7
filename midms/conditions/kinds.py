"""The kinds of conditions that a user may give, by name; programs list them in `--help` without numpy."""

#: What each stands for is in `midms.conditions.make`.
KINDS = ("map", "drawing", "edges", "keypoints", "segmentation")
