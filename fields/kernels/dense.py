"""Stacks of dense layers with ReLU between them: the small networks of all kinds.

torch's own layers keep what goes into a ReLU beside what comes out, and bring in a fresh buffer for each step on the
way; here activations are rectified in place, which is a third of the time of a training step of such a network on a
CPU. Parameters stay float32; what flows between layers has the type of what goes in, float32 or bfloat16.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fieldcast.fields.kernels.compiled import plain_backward

NARROW = 16  # bfloat16 multiplications by narrower matrices are slower than by this wide ones


def dense(x: Float[Tensor, "n i"], layers: Sequence[nn.Linear], *, rectify_last: bool = False) -> Float[Tensor, "n o"]:
    """The layers one after the other, ReLU between them, and behind the last if wanted; in the type of `x`.

    Differentiable in `x` and the layers' parameters.
    """
    parameters = [parameter for layer in layers for parameter in (layer.weight, layer.bias)]
    result: Tensor = _Dense.apply(x, rectify_last, *parameters)  # type: ignore[no-untyped-call]
    return result


def dense_reference(x: Tensor, *parameters: Tensor | None, rectify_last: bool = False) -> Tensor:
    """`dense` in plain torch; parameters: weight and bias of each layer, None for no bias."""
    pairs = _pairs(parameters)
    for place, (weight, bias) in enumerate(pairs):
        x = nn.functional.linear(x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype))
        if place < len(pairs) - 1 or rectify_last:
            x = torch.relu(x)
    return x


class _Dense(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rectify_last: bool, *parameters: Tensor | None) -> Tensor:
        pairs = _pairs(parameters)
        inputs, outputs = [], x
        for place, (weight, bias) in enumerate(pairs):
            inputs.append(outputs)
            weight, bias = _cast(weight, bias, x.dtype, last=place == len(pairs) - 1)
            outputs = inputs[-1] @ weight.t() if bias is None else torch.addmm(bias, inputs[-1], weight.t())
            if place < len(pairs) - 1 or rectify_last:
                outputs.relu_()
        outputs = outputs[:, : len(pairs[-1][0])]
        ctx.rectify_last, ctx.layers = rectify_last, len(pairs)
        ctx.save_for_backward(*inputs, outputs if rectify_last else None, *parameters)
        return outputs

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        inputs, last, parameters = _split(ctx.saved_tensors, ctx.layers)
        if torch.is_grad_enabled():
            given = [inputs[0], *(p for p in parameters if p is not None)]
            plain = partial(_plain, has_bias=[p is not None for p in parameters], rectify_last=ctx.rectify_last)
            found = iter(plain_backward(plain, given, (grad,)))
            return next(found), None, *(None if p is None else next(found) for p in parameters)
        if last is not None:
            grad = torch.ops.aten.threshold_backward(grad, last, 0)
        grads: list[Tensor | None] = []
        pairs = _pairs(parameters)
        for place in reversed(range(ctx.layers)):
            (weight, bias), x = pairs[place], inputs[place]
            rows = len(weight)
            weight, _ = _cast(weight, None, x.dtype, last=place == ctx.layers - 1)
            if len(weight) > rows:
                grad = nn.functional.pad(grad, (0, len(weight) - rows))
            grads += [
                None if bias is None else grad.sum(0, dtype=torch.float32)[:rows].to(bias.dtype),
                (grad.t() @ x)[:rows].to(pairs[place][0].dtype),
            ]
            if place:
                grad = grad @ weight
                torch.ops.aten.threshold_backward.grad_input(grad, x, 0, grad_input=grad)
            elif ctx.needs_input_grad[0]:
                return grad @ weight, None, *reversed(grads)
        return None, None, *reversed(grads)


def _pairs(parameters: Sequence[Any]) -> list[tuple[Any, Any]]:
    return list(zip(parameters[::2], parameters[1::2], strict=True))


def _cast(weight: Tensor, bias: Tensor | None, dtype: torch.dtype, last: bool) -> tuple[Tensor, Tensor | None]:
    """Parameters as they are multiplied: cast, and those of the last layer with rows of zeros where there are few."""
    missing = max(NARROW - len(weight), 0) if last and dtype == torch.bfloat16 else 0
    weight, bias = weight.to(dtype), None if bias is None else bias.to(dtype)
    if missing:
        weight = nn.functional.pad(weight, (0, 0, 0, missing))
        bias = None if bias is None else nn.functional.pad(bias, (0, missing))
    return weight, bias


def _split(saved: Sequence[Tensor | None], layers: int) -> tuple[list[Any], Tensor | None, list[Any]]:
    return list(saved[:layers]), saved[layers], list(saved[layers + 1 :])


def _plain(x: Tensor, *given: Tensor, has_bias: list[bool], rectify_last: bool) -> Tensor:
    rest = iter(given)
    return dense_reference(x, *(next(rest) if has else None for has in has_bias), rectify_last=rectify_last)
