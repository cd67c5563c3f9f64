"""The loop that fitting and distilling share: optimiser, schedule, progress, checkpoints, and a stop at bad losses."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fieldcast.errors import FieldcastError, InputError
from fieldcast.fields.field import Field
from fieldcast.fields.files.tensors import read_tensors, write_tensors
from fieldcast.fields.heads import trained_in, training_precision
from fieldcast.fields.progress import Progress, silent

CHECKPOINT_SECONDS = 30.0
BETAS, EPS = (0.9, 0.99), 1e-15  # of AdamW


@dataclass
class Training:
    """One training run of `field`, or of another module.

    loss: gives the loss of a step (counted from 0), drawing random numbers from the generator only.
    schedule: the learning rate of a group at a step, from that which it starts with. rates: groups of parameters and
    those rates (a field's default: its own, with its stride); weight_decay, betas: of AdamW. state: tensors, besides
    the field's and the optimiser's, that the run changes in place and needs to continue; those that begin without
    rows may get some. identity: what a checkpoint must agree with to be resumed. checkpoint: where resumable state is
    kept while the run lasts; None: nowhere.
    """

    field: nn.Module
    loss: Callable[[int, torch.Generator], Tensor]
    schedule: Callable[[int, float], float]
    steps: int
    seed: int
    title: str
    weight_decay: float = 0.0
    rates: list[tuple[list[nn.Parameter], float]] | None = None
    betas: tuple[float, float] = BETAS
    state: dict[str, Tensor] = field(default_factory=dict)
    identity: dict[str, Any] = field(default_factory=dict)
    checkpoint: Path | None = None
    resume: bool = False

    def run(self, progress: Progress = silent) -> None:
        """Trains in place. Raises FieldcastError at a loss that is not finite; the last good checkpoint stays."""
        optimizer = self._optimizer()
        generator = torch.Generator().manual_seed(self.seed)
        start = self._load(optimizer, generator) if self.resume else 0
        device = next(self.field.parameters()).device
        with trained_in(self.field, training_precision(device)):
            self._steps(start, optimizer, generator, progress)
        if self.checkpoint:
            self.checkpoint.unlink(missing_ok=True)

    def _steps(
        self, start: int, optimizer: torch.optim.Optimizer, generator: torch.Generator, progress: Progress
    ) -> None:
        saved, started = time.monotonic(), time.monotonic()
        for step in range(start, self.steps):
            for group in optimizer.param_groups:
                group["lr"] = self.schedule(step, group["initial_lr"])
            loss = self.loss(step, generator)
            value = float(loss.detach())
            if not math.isfinite(value):
                raise FieldcastError(self._diverged(step, value))
            if loss.requires_grad:  # a batch of rays through nothing has no gradient
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
            done = step + 1
            rate = (done - start) / max(time.monotonic() - started, 1e-9)
            progress(done, self.steps, f"{self.title}: loss {value:.3g}, {rate:.1f} steps/s")
            if self.checkpoint and time.monotonic() - saved > CHECKPOINT_SECONDS and done < self.steps:
                self._save(self.checkpoint, done, optimizer, generator)
                saved = time.monotonic()

    def groups(self) -> list[dict[str, Any]]:
        """The groups of parameters that AdamW takes, with their settings."""
        rates = self.rates
        if rates is None:
            assert isinstance(self.field, Field)
            rates = own_rates(self.field, self.steps)
        return adam_groups(rates, self.betas, self.weight_decay)

    def _optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.groups(), fused=True)

    def _diverged(self, step: int, value: float) -> str:
        kept = f"; the state before it is in {self.checkpoint}" if self.checkpoint and self.checkpoint.exists() else ""
        return f"{self.title}: the loss became {value} at step {step + 1} of {self.steps}; try another --seed{kept}"

    def _save(self, path: Path, step: int, optimizer: torch.optim.Optimizer, generator: torch.Generator) -> None:
        tensors = {f"field.{k}": v for k, v in self.field.state_dict().items()}
        tensors |= {f"state.{k}": v for k, v in self.state.items()}
        for index, entry in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{k}": v for k, v in entry.items()}
        tensors["generator"] = generator.get_state()
        write_tensors(path, tensors, {"identity": self._identity(), "step": step}, force=True)

    def _identity(self) -> dict[str, Any]:
        spec = {"spec": self.field.spec.to_json()} if isinstance(self.field, Field) else {}
        return {**spec, "steps": self.steps, "seed": self.seed, **self.identity}

    def _load(self, optimizer: torch.optim.Optimizer, generator: torch.Generator) -> int:
        require_checkpoint(self.checkpoint, self.resume)
        assert self.checkpoint is not None
        tensors, meta = read_tensors(self.checkpoint)
        try:
            return self._restore(self.checkpoint, tensors, meta, optimizer, generator)
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            text = " ".join(str(error).split())
            raise InputError(f"{self.checkpoint}: not a whole checkpoint ({text}); run without --resume") from None

    def _restore(
        self,
        path: Path,
        tensors: dict[str, Tensor],
        meta: dict[str, Any],
        optimizer: torch.optim.Optimizer,
        generator: torch.Generator,
    ) -> int:
        identity = self._identity()
        differing = [k for k in identity if _plain(identity[k]) != _plain(meta.get("identity", {}).get(k))]
        if differing:
            raise InputError(f"{path}: was made with another {', '.join(differing)}; run without --resume")
        self.field.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("field.")})
        for name, value in self.state.items():
            saved = tensors[f"state.{name}"]
            (value if len(value) else value.resize_(saved.shape)).copy_(saved)
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("optimizer."):
                _, index, name = key.split(".", 2)
                state.setdefault(int(index), {})[name] = value
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        generator.set_state(tensors["generator"])
        return int(meta["step"])


def own_rates(field: Field, steps: int) -> list[tuple[list[nn.Parameter], float]]:
    """The field's own groups of parameters and their learning rates, in a run of `steps`."""
    stride = field.stride(steps)
    return [(parameters, rate * stride) for parameters, rate in field.learning_rates() if parameters]


def adam_groups(
    rates: list[tuple[list[nn.Parameter], float]],
    betas: tuple[float, float] = BETAS,
    weight_decay: float = 0.0,
) -> list[dict[str, Any]]:
    """Groups of parameters, each with the learning rate that it starts with, as AdamW takes them."""
    settings = {"betas": betas, "eps": EPS, "weight_decay": weight_decay}
    return [{"params": parameters, "lr": rate, "initial_lr": rate, **settings} for parameters, rate in rates]


def require_checkpoint(checkpoint: Path | None, resume: bool) -> None:
    """Raises InputError if there is nothing to resume. Called before long work starts."""
    if resume and (checkpoint is None or not checkpoint.exists()):
        raise InputError(f"nothing to resume: {checkpoint} does not exist; run without --resume")


def _plain(value: Any) -> Any:
    """JSON has no tuples."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


def cosine(steps: int, final: float) -> Callable[[int, float], float]:
    """Learning rates that fall along a half cosine to `final` (an absolute rate, or the start if that is smaller)."""

    def rate(step: int, initial: float) -> float:
        low = min(final, initial)
        return low + (initial - low) * 0.5 * (1 + math.cos(math.pi * step / max(steps, 1)))

    return rate
