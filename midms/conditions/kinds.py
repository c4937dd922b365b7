"""Names of the condition kinds that a user may give. Programs list them in `--help` without importing numpy."""

#: `midms.conditions.make` describes each kind.
KINDS = ("map", "drawing", "edges", "keypoints", "segmentation")
