"""A stand-in for the Inception network."""

from __future__ import annotations

from pathlib import Path

import pytest
from narrow_features import NarrowFeatures

from midms.evaluation import records


@pytest.fixture
def narrow_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """FID and KID by `NarrowFeatures`."""
    file = tmp_path / "narrow.pth"
    file.write_bytes(b"stands for the weights")
    monkeypatch.setattr(records, "InceptionFeatures", NarrowFeatures)
    monkeypatch.setattr(records, "inception_file", lambda path: file)
