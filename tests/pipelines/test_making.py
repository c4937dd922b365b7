"""The settings that all programs make of a protocol and numbers, and the device that they choose."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from midms.config import ConfigError
from midms.diffusion.settings import InterleaveSettings
from midms.options import PROTOCOLS
from midms.pipelines.making import load_pipeline, loop_settings, usable_device
from midms.pipelines.midms import MIDMsPipeline


@pytest.fixture(scope="module")
def pipe(tiny_pipeline_folder) -> MIDMsPipeline:
    return MIDMsPipeline.from_pretrained(tiny_pipeline_folder)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(list(PROTOCOLS)),
    st.none() | st.integers(-5, 1200),
    st.none() | st.integers(-5, 1200),
    st.none() | st.floats(-2, 3) | st.just(float("nan")),
)
def test_numbers_are_taken_over_or_refused_in_one_line(pipe, protocol, steps, calls, threshold):
    """Whatever is asked for: settings that hold exactly it, or one line that names the option."""
    try:
        chosen = loop_settings(pipe, protocol, steps, calls, threshold)
    except ConfigError as error:
        assert "--steps" in str(error) and "\n" not in str(error)
        return
    assert isinstance(chosen, InterleaveSettings)
    own = pipe.settings if protocol == "weights" else getattr(InterleaveSettings, protocol)()
    assert chosen.num_inference_steps == (own.num_inference_steps if steps is None else steps)
    assert 0 <= chosen.num_interleaved_steps <= chosen.num_inference_steps <= 1000  # 0: the first warp
    if calls is not None:
        assert chosen.num_interleaved_steps == calls
    assert chosen.threshold == (own.threshold if threshold is None else threshold)
    # nothing else of the protocol changes
    same = {"num_inference_steps", "num_interleaved_steps", "threshold"}
    assert all(getattr(chosen, name) == getattr(own, name) for name in vars(own) if name not in same)


def test_an_unknown_protocol_names_the_known_ones(pipe):
    with pytest.raises(ConfigError, match=r"'papers': expected one of .*paper"):
        loop_settings(pipe, "papers")


def test_a_device_that_torch_lacks_is_refused(tiny_pipeline_folder):
    assert usable_device("cpu") == "cpu"
    assert usable_device(None) == ("cuda" if torch.cuda.is_available() else "cpu")
    for name in ("gpu", "cuda:99"):
        with pytest.raises(ConfigError) as caught:
            load_pipeline(tiny_pipeline_folder, name)
        assert "\n" not in str(caught.value)
