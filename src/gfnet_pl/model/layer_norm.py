"""LayerNorm whose weight and bias have the right gradients in bf16 on a CPU too.

PyTorch's own kernel for the CPU adds up the gradients of weight and bias over all tokens in the type of the tokens. In
bf16, a sum of thousands of small numbers stops growing: gradients of biases were 60 % off, those of weights 10 %. On a
GPU the sums are in float32, and so they are here. Everything else is PyTorch's.
"""

from typing import Any

import torch
from torch import Tensor, nn

_LOW = (torch.bfloat16, torch.float16)


class LayerNorm(nn.LayerNorm):
    """`nn.LayerNorm` over the last axis, with sums over tokens in float32."""

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type == "cpu" and x.dtype in _LOW and torch.is_grad_enabled() and not torch.compiler.is_compiling():
            x = _Normalise.apply(x, self.weight, self.bias, self.eps)  # type: ignore[no-untyped-call]
            return x
        return super().forward(x)


class _Normalise(torch.autograd.Function):
    """PyTorch's kernels, that for the gradients of weight and bias on the tokens in float32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:  # noqa: ANN401
        y, mean, rstd = torch.native_layer_norm(x, x.shape[-1:], weight, bias, eps)
        ctx.save_for_backward(x, weight, bias, mean, rstd)  # mean and rstd (…, 1) are float32
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:  # noqa: ANN401
        x, weight, bias, mean, rstd = ctx.saved_tensors
        kernel, axes = torch.ops.aten.native_layer_norm_backward, x.shape[-1:]
        of_x, _, _ = kernel(gradient, x, axes, mean, rstd, weight, bias, [True, False, False])
        floats = [value.float() for value in (gradient, x)]
        _, of_weight, of_bias = kernel(*floats, axes, mean, rstd, weight.float(), bias.float(), [False, True, True])
        return of_x, of_weight, of_bias, None
