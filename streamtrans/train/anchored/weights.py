"""Where a stage starts: the base, and what an earlier stage has left."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from streamtrans.core import BadConfig, BadModel
from streamtrans.model.config import NetworkConfig, read_json
from streamtrans.model.loading import load_network
from streamtrans.model.network import Network
from streamtrans.train.anchored.recipe import AnchoredRecipe, AnchoredStage


def load_base(folder: Path) -> Network:
    """Load the base of a run in float32.

    Raises:
        BadModel: it is no folder that ``streamtrans convert`` made.
    """
    if not folder.is_dir():
        raise BadModel(f"there is no folder {folder}; make it with streamtrans convert")
    raw = read_json(folder / "config.json")
    if raw.get("model_type") != "whisper_m2m" or not raw.get("prompt"):
        raise BadModel(
            f"{folder} is no whisperM2M folder that is asked as Whisper is: streamtrans convert --prompt whisper"
        )
    return load_network(folder, NetworkConfig.of(raw)).float()


def load_start(recipe: AnchoredRecipe, stage: AnchoredStage, root: Path) -> Network:
    """Load what a stage starts from, in the folder ``root`` of its run.

    Raises:
        BadConfig: the earlier stage has left no weights yet.
    """
    start = load_base(Path(recipe.base))
    if stage.start_from:
        start.load_state_dict(stage_tensors(root, stage.start_from, stage.start_with))
    return start


def stage_tensors(folder: Path, stage: str, which: str = "best") -> dict[str, Tensor]:
    """Return the network's tensors that a stage left: those that did ``best`` with people, or the ``last`` ones.

    Raises:
        BadConfig: it has left none yet.
    """
    for name in ("best.safetensors", "weights.safetensors") if which == "best" else ("weights.safetensors",):
        if (folder / stage / name).exists():
            return load_file(folder / stage / name)
    raise BadConfig(f"stage {stage} of {folder} has left no weights yet")
