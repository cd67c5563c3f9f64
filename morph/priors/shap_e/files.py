"""Shap-E's folder, as diffusers writes it: one folder a part, each with its sizes as JSON and tensors as safetensors.

The classes of the parts are named here, not by the folder, and tensors are never unpickled: opening one runs no code.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from fieldcast.errors import FieldcastError, InputError

HUB = "openai/shap-e"
INSTALL = 'Shap-E needs diffusers and transformers: pip install "fieldcast[shape]"'
# The file that says what a part is, and its class; those that have tensors.
PARTS = {
    "prior": ("config.json", "PriorTransformer"),
    "text_encoder": ("config.json", "CLIPTextModelWithProjection"),
    "shap_e_renderer": ("config.json", "ShapERenderer"),
    "scheduler": ("scheduler_config.json", "HeunDiscreteScheduler"),
    "tokenizer": ("tokenizer_config.json", "CLIPTokenizer"),
}
TENSORS = ("prior", "text_encoder", "shap_e_renderer")
UNUSED = ("clip_mean", "clip_std", "mesh_decoder.", "void.")  # tensors that may be missing
VOCABULARY = (("tokenizer.json",), ("vocab.json", "merges.txt"))  # either of these


@dataclass(frozen=True, eq=False)
class Parts:
    """Objects of diffusers and transformers, as the folders are called."""

    prior: Any
    text_encoder: Any
    shap_e_renderer: Any
    scheduler: Any
    tokenizer: Any


def open_parts(folder: Path, device: torch.device | str = "cpu") -> Parts:
    """The parts in a folder. Raises InputError, one line, if it is not whole or not Shap-E for captions."""
    for part in PARTS:
        check_part(folder, part)
    with diffusers_at_hand() as (diffusers, transformers):
        renderers = diffusers.pipelines.shap_e.renderer
        found = Parts(
            _module(diffusers.PriorTransformer, folder, "prior", {"low_cpu_mem_usage": False}),
            _module(transformers.CLIPTextModelWithProjection, folder, "text_encoder", {"dtype": torch.float32}),
            _module(renderers.ShapERenderer, folder, "shap_e_renderer", {"low_cpu_mem_usage": False}),
            _opened(diffusers.HeunDiscreteScheduler, folder, "scheduler"),
            _opened(transformers.CLIPTokenizer, folder, "tokenizer"),
        )
    check_sizes(folder, found)
    for part in TENSORS:
        getattr(found, part).float().to(device).eval().requires_grad_(False)
    return found


def downloaded() -> Path:
    """The folder of Shap-E from the hub, where it is kept for the next time."""
    with diffusers_at_hand():
        import huggingface_hub

        wanted = [f"{part}/*.{kind}" for part in PARTS for kind in ("json", "txt", "safetensors")]
        try:
            return Path(huggingface_hub.snapshot_download(HUB, allow_patterns=wanted))
        except Exception as error:  # whatever a network can do
            raise FieldcastError(
                f"{HUB}: cannot be downloaded ({_line(error)}); a folder that holds it works without a network"
            ) from None


def check_part(folder: Path, part: str) -> None:
    """Raises InputError unless a part's files are there and are what they should be, as far as can be told so far."""
    file, name = folder / part / PARTS[part][0], PARTS[part][1]
    if not file.is_file():
        raise InputError(f"{folder}: expected Shap-E as diffusers stores it, found no {part}/{file.name}")
    try:
        config = json.loads(file.read_text())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}: not JSON ({error})") from None
    config = config if isinstance(config, dict) else {}
    found = config.get("_class_name") or config.get("architectures") or config.get("tokenizer_class") or name
    if name not in (found if isinstance(found, list) else [found, f"{found}Fast", str(found).removesuffix("Fast")]):
        raise InputError(f"{file}: expected {name}, found {found}")
    there = {path.name for path in file.parent.iterdir()}
    if part == "tokenizer" and not any(there.issuperset(names) for names in VOCABULARY):
        raise InputError(f"{file.parent}: expected tokenizer.json, or vocab.json and merges.txt")
    if part in TENSORS and not any(name.endswith(".safetensors") for name in there):
        kind = "pickled weights (.bin), which can run code" if any(n.endswith(".bin") for n in there) else "none"
        raise InputError(f"{file.parent}: expected weights in .safetensors, found {kind}; see docs/shap-e.md")


def check_sizes(folder: Path, parts: Parts) -> None:
    """Raises InputError unless the parts are of one Shap-E that is told captions and predicts objects."""
    prior, renderer, scheduler = parts.prior.config, parts.shap_e_renderer.config, parts.scheduler.config
    names = [f"nerstf.mlp.{i}.weight" for i in range(len(renderer.param_shapes))]
    told = parts.text_encoder.config.projection_dim
    rows = sum(rows for rows, _ in renderer.param_shapes)
    for what, expected, found in (
        ("what the prior predicts", "sample", scheduler.prediction_type),
        ("the prior's words", None, prior.encoder_hid_proj_type),
        ("the prior's last token", None, prior.added_emb_type),
        ("channels that the prior gives", 2 * prior.embedding_dim, prior.clip_embed_dim),
        ("channels of the renderer's latents", prior.embedding_dim, renderer.d_latent),
        ("tokens of the renderer's latents", prior.num_embeddings, rows),
        ("features of captions", prior.embedding_proj_dim or prior.embedding_dim, told),
        ("layers that latents give", names, list(renderer.param_names)),
        ("numbers at a point", 12, renderer.n_output),
    ):
        if expected != found:
            raise InputError(f"{folder}: not Shap-E: {what}: expected {expected}, found {found}")


@contextmanager
def diffusers_at_hand() -> Iterator[tuple[Any, Any]]:
    """Diffusers and transformers, which print nothing meanwhile. Raises FieldcastError where they are missing."""
    try:
        import diffusers
        import transformers
    except ImportError as error:
        raise FieldcastError(f"{INSTALL} ({_line(error)})") from None
    talk = diffusers.utils.logging, transformers.utils.logging
    before, bars = [log.get_verbosity() for log in talk], transformers.utils.logging.is_progress_bar_enabled()
    for log in talk:
        log.set_verbosity_error()
    talk[1].disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # diffusers' schedulers, with numpy's newest
            yield diffusers, transformers
    finally:
        for log, level in zip(talk, before, strict=True):
            log.set_verbosity(level)
        if bars:
            talk[1].enable_progress_bar()


def _module(cls: Any, folder: Path, part: str, settings: dict[str, Any]) -> Any:
    """A part with tensors, all of which that are used must be there, and finite."""
    module, info = _opened(cls, folder, part, use_safetensors=True, output_loading_info=True, **settings)
    missing = sorted(name for name in info["missing_keys"] if not name.startswith(UNUSED))
    if missing:
        raise InputError(f"{folder / part}: not whole: missing {', '.join(missing[:3])}")
    for name, value in module.named_parameters():
        if not bool(torch.isfinite(value).all()):
            raise InputError(f"{folder / part}: {name}: expected finite numbers")
    return module


def _opened(cls: Any, folder: Path, part: str, **settings: Any) -> Any:
    try:
        return cls.from_pretrained(folder / part, local_files_only=True, **settings)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{folder / part}: cannot be read: {_line(error)}") from None


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
