"""SAM and SAM 2 through transformers, from a folder of weights: nothing is ever fetched.

Each person is asked for by mask, box and points, three times, the logits of one answer being the mask of the next
question (MultiPly, Jiang et al. 2024, section 3.3). The class of the network is named here, not by the folder, and
weights are safetensors: opening one runs no code.

Letters: P people, N points, H by W pixels.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from fieldcast.errors import FieldcastError, InputError
from fieldcast.reconstruct.segments.canvas import Canvas
from fieldcast.reconstruct.segments.segmenter import HIDDEN, SURE, Prompt

INSTALL = 'SAM needs transformers: pip install "fieldcast[sam]"'
# The class of a folder's `model_type`. Released weights of SAM 2 say that they are for videos; what segments pictures
# is part of them.
CLASSES = {"sam": "SamModel", "sam2": "Sam2Model", "sam2_video": "Sam2Model"}
TIMES = 3
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's colours, where the folder does not say


@dataclass(frozen=True, eq=False)
class Sam:
    """network: of transformers. stretched: whether pictures fill its canvas. mean, std: of colours that it knows."""

    network: Any
    stretched: bool
    mean: Float[Tensor, " 3"]
    std: Float[Tensor, " 3"]

    @torch.no_grad()
    def segment(self, image: UInt8[Tensor, "h w 3"], prompts: list[Prompt | None]) -> Float[Tensor, "p h w"]:
        """See `Segmenter`."""
        logits = torch.full((len(prompts), *image.shape[:2]), HIDDEN)
        if all(prompt is None for prompt in prompts):
            return logits
        canvas, device = self.canvas(*image.shape[:2]), self.mean.device
        embedding = self.network.get_image_embeddings(canvas.picture(image.to(device), self.mean, self.std))
        for person, prompt in enumerate(prompts):
            if prompt is not None:
                found = self._ask(canvas, embedding, prompt)
                logits[person] = canvas.back(found).clamp(-SURE, SURE).cpu()
        return logits

    def canvas(self, height: int, width: int) -> Canvas:
        """Where pictures of this size are seen."""
        config = self.network.config.prompt_encoder_config
        side, low = int(config.image_size), 4 * int(config.image_size // config.patch_size)
        return (Canvas.stretched if self.stretched else Canvas.padded)(side, low, height, width)

    def _ask(self, canvas: Canvas, embedding: Any, prompt: Prompt) -> Float[Tensor, "1 1 l l"]:
        device = self.mean.device
        points = canvas.points(torch.cat([prompt.positive, prompt.negative]).to(device))
        labels = torch.tensor([1] * len(prompt.positive) + [0] * len(prompt.negative), device=device)
        box = canvas.points(prompt.box.to(device).view(2, 2)).view(1, 1, 4)
        mask = canvas.mask(prompt.mask.to(device))
        for _ in range(TIMES):
            answer = self.network(
                image_embeddings=embedding,
                input_points=points[None, None],
                input_labels=labels[None, None],
                input_boxes=box,
                input_masks=mask,
                multimask_output=False,
            )
            mask = answer.pred_masks[:, 0]
        return mask


def open_sam(folder: Path | None, device: torch.device | str = "cpu") -> Sam:
    """SAM or SAM 2 in a folder that transformers wrote. Raises InputError, one line, if it is not whole or not SAM."""
    if folder is None:
        raise InputError("segmenter sam: expected a folder with weights of SAM or SAM 2; see docs/segments.md")
    kind = _kind(folder)
    mean, std = _normal(folder)
    with _transformers() as transformers:
        network = _opened(getattr(transformers, CLASSES[kind]), folder)
    network.float().to(device).eval().requires_grad_(False)
    stretched = CLASSES[kind] == "Sam2Model"
    return Sam(network, stretched, torch.tensor(mean, device=device), torch.tensor(std, device=device))


def _kind(folder: Path) -> str:
    """What a folder's config says it is, if its weights can be opened safely."""
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder}: expected SAM as transformers stores it, found no config.json")
    kind = _json(folder / "config.json").get("model_type")
    if kind not in CLASSES:
        raise InputError(f"{folder / 'config.json'}: expected model_type {', '.join(CLASSES)}, found {kind}")
    if not any(folder.glob("*.safetensors")):
        found = "pickled weights (.bin), which can run code" if any(folder.glob("*.bin")) else "none"
        raise InputError(f"{folder}: expected weights in .safetensors, found {found}")
    return str(kind)


def _normal(folder: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the colours, as the folder's processor says; ImageNet's if there is none."""
    for name in ("preprocessor_config.json", "processor_config.json"):
        if (folder / name).is_file():
            said = _json(folder / name)
            inner = said.get("image_processor")
            said = inner if isinstance(inner, dict) else said
            both = [said.get(key, usual) for key, usual in (("image_mean", MEAN), ("image_std", STD))]
            for values in both:
                numbers = isinstance(values, (list, tuple)) and all(isinstance(v, (int, float)) for v in values)
                if not numbers or len(values) != 3 or not all(math.isfinite(v) for v in values) or 0 in both[1]:
                    raise InputError(f"{folder / name}: expected image_mean and image_std of 3 numbers, found {values}")
            return tuple(map(float, both[0])), tuple(map(float, both[1]))
    return MEAN, STD


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({_line(error)})") from None
    if not isinstance(found, dict):
        raise InputError(f"{path}: expected a JSON object, found {type(found).__name__}")
    return found


@contextmanager
def _transformers() -> Iterator[Any]:
    """Transformers, which prints nothing meanwhile. Raises FieldcastError where it is missing."""
    try:
        import transformers
    except ImportError as error:
        raise FieldcastError(f"{INSTALL} ({_line(error)})") from None
    talk = transformers.utils.logging
    before, bars = talk.get_verbosity(), talk.is_progress_bar_enabled()
    talk.set_verbosity_error()
    talk.disable_progress_bar()
    try:
        yield transformers
    finally:
        talk.set_verbosity(before)
        if bars:
            talk.enable_progress_bar()


def _opened(cls: Any, folder: Path) -> Any:
    """The network, all of whose weights must be there, and finite."""
    settings: dict[str, Any] = {"local_files_only": True, "use_safetensors": True, "output_loading_info": True}
    try:
        network, info = cls.from_pretrained(folder, **settings)
    except Exception as error:  # transformers raises almost anything on configs that it does not like
        raise InputError(f"{folder}: cannot be read: {_line(error)}") from None
    missing = sorted(info["missing_keys"])
    if missing:
        raise InputError(f"{folder}: not whole: missing {', '.join(missing[:3])}")
    for name, value in network.named_parameters():
        if not bool(torch.isfinite(value).all()):
            raise InputError(f"{folder}: {name}: expected finite numbers")
    return network


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
