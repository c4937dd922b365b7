"""The networks load without the rest of diffusers, and the rest of diffusers still works afterwards."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from midms.models import narrow_import
from midms.models.numerics import weights_to_come

#: Nothing that makes a picture needs them.
UNWANTED = ("accelerate", "peft", "scipy", "skimage", "sympy", "torch._dynamo", "torchvision", "transformers")

AFTERWARDS = """
import json, sys
from midms.models.denoiser import Denoiser
from midms.models.first_stage import FirstStage
small = {"ch": 8, "ch_mult": [1], "num_res_blocks": 1, "n_embed": 4, "norm_groups": 4}
stages = [FirstStage(small | {"kind": kind, "z_channels": 3}) for kind in ("vq", "kl")]
unet = Denoiser({"model_channels": 8, "channel_mult": [1, 1], "num_res_blocks": 1, "attention_resolutions": [2],
                 "num_heads": 2, "norm_groups": 4}).unet
loaded = sorted(sys.modules)
stand_ins = [name for name, module in sys.modules.items() if type(module).__name__ == "StandIn"]

import diffusers, diffusers.models.unets, diffusers.quantizers, diffusers.hooks
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel, UNet2DModel, VQModel
same = [type(unet) is UNet2DModel, type(unet) is diffusers.models.unets.UNet2DModel,
        type(stages[0].model) is VQModel, type(stages[1].model) is AutoencoderKL,
        isinstance(diffusers.quantizers.DiffusersAutoQuantizer, type)]
import diffusers.loaders.lora_base as lora
lazy = [isinstance(unet, lora.ModelMixin), isinstance(unet, lora.PreTrainedModel) if hasattr(lora, "PreTrainedModel")
        else False]
unet.save_pretrained(sys.argv[1])
again = UNet2DModel.from_pretrained(sys.argv[1])
equal = all((a == b).all().item() for a, b in zip(unet.parameters(), again.parameters()))
stages[1].model.enable_tiling(); stages[1].model.disable_tiling()
from midms.models import narrow_import
asked = len(narrow_import._left_in_graph)
narrow_import.tell_dynamo()
from torch._dynamo.trace_rules import _allowed_callable_ids
from diffusers.models.attention_processor import Attention
print(json.dumps({"loaded": loaded, "stand_ins": stand_ins, "same": same, "lazy": lazy, "equal": equal, "asked": asked,
                  "left": len(narrow_import._left_in_graph), "allowed": id(Attention) in _allowed_callable_ids}))
"""


def unwanted(modules: list[str]) -> list[str]:
    return [name for name in modules if any(name == bad or name.startswith(f"{bad}.") for bad in UNWANTED)]


def test_the_networks_load_little_and_are_diffusers_own(tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, "-c", AFTERWARDS, str(tmp_path)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    told = json.loads(run.stdout.splitlines()[-1])
    assert unwanted(told["loaded"]) == [] and told["stand_ins"] == []
    assert sum(name.startswith("diffusers") for name in told["loaded"]) < 100
    assert all(told["same"]) and told["lazy"] == [True, False] and told["equal"]
    assert told["asked"] > 0 and told["left"] == 0 and told["allowed"]


def test_a_translation_loads_little(tmp_path: Path, tiny_pipeline_folder: Path) -> None:
    from PIL import Image

    Image.new("RGB", (32, 32), "white").save(tmp_path / "sketch.png")
    Image.new("RGB", (32, 32), "red").save(tmp_path / "photo.png")
    program = "import json, sys; from midms.cli import main; main(sys.argv[1:]); print(json.dumps(sorted(sys.modules)))"
    words = ["translate", "--condition", "sketch.png", "--exemplar", "photo.png", "--out", "out.png"]
    run = subprocess.run(
        [sys.executable, "-c", program, *words, "--weights", str(tiny_pipeline_folder), "--device", "cpu"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    loaded = json.loads(run.stdout)
    assert (tmp_path / "out.png").is_file() and unwanted([*loaded]) == []
    assert len(loaded) < 2100, "modules; a whole diffusers makes 3,900 of them"


def test_a_package_runs_its_init_at_the_first_name_that_is_missing(tmp_path: Path, monkeypatch) -> None:
    package = tmp_path / "eager_package"
    package.mkdir()
    (package / "__init__.py").write_text("from eager_package.part import NUMBER\nfrom eager_package import heavy\n")
    (package / "part.py").write_text("NUMBER = 3\n")
    (package / "heavy.py").write_text("LOADED = True\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(narrow_import, "LATE_PACKAGES", ("eager_package",))
    with narrow_import.narrow_diffusers():
        import eager_package.part

        assert eager_package.part.NUMBER == 3 and "eager_package.heavy" not in sys.modules
    with pytest.raises(AttributeError):
        eager_package.__nothing__  # noqa: B018 - names of the language itself are no reason to run it
    assert "eager_package.heavy" not in sys.modules
    assert eager_package.NUMBER == 3 and sys.modules["eager_package.heavy"].LOADED
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        eager_package.nothing  # noqa: B018


def test_names_of_a_stand_in_are_the_real_ones_when_they_are_used(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "far_away.py").write_text("class Base:\n    size = 4\n\ndef double(x):\n    return 2 * x\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(narrow_import, "STAND_INS", ("far_away", "not_installed_at_all"))
    with narrow_import.narrow_diffusers():
        from far_away import Base, double

        assert isinstance(sys.modules["far_away"], narrow_import.StandIn)
        with pytest.raises(ImportError):
            import not_installed_at_all  # noqa: F401
        with narrow_import.narrow_diffusers():
            assert double(2) == 4, "used while it is open"
    import far_away

    assert far_away.Base.size == Base.size == 4 and isinstance(far_away.Base(), Base)
    assert narrow_import._finder is None and not any(type(f).__name__ == "_Finder" for f in sys.meta_path)


def test_a_disabled_function_works_and_is_disabled_when_called() -> None:
    @narrow_import._disable
    def plain(x: int) -> int:
        return x + 1

    @narrow_import._disable()
    def other(x: int) -> int:
        return x + 2

    assert (plain(1), other(1), plain.__name__) == (2, 3, "plain")


def test_networks_that_get_weights_draw_none() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    with weights_to_come():
        layers = nn.Sequential(nn.Linear(4, 4), nn.Conv2d(3, 4, 3), nn.Embedding(5, 2), nn.GroupNorm(2, 4))
        layers[2].weight.data.uniform_(-1, 1)
    assert torch.equal(torch.get_rng_state(), before)
    nn.init.zeros_(layers[0].weight)
    assert not layers[0].weight.any() and torch.rand(1) != torch.rand(1)
