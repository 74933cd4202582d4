"""LayerNorm: the function is PyTorch's, and its gradients in bf16 on a CPU are right."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gfnet_pl import GFNet
from gfnet_pl.model.layer_norm import LayerNorm


def gradients(net, images, labels, bf16=False):
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        logits = net(images)
    F.cross_entropy(logits if logits.dtype == torch.float64 else logits.float(), labels).backward()
    return {name: parameter.grad.double() for name, parameter in net.named_parameters()}


def error(found, expected, names):
    found, expected = (torch.cat([each[name].flatten() for name in names]) for each in (found, expected))
    return ((found - expected).norm() / expected.norm()).item()


def test_gradients_in_bf16_are_those_of_float64():
    torch.manual_seed(0)
    net = GFNet(dim=96, depth=4, dropout=0.0, drop_path=0.0)
    net.set_normalisation([127.5], [74])
    images, labels = torch.randint(0, 256, (32, 1, 96, 96), dtype=torch.uint8), torch.randint(0, 28, (32,))
    expected = gradients(copy.deepcopy(net).double(), images, labels)
    found = gradients(net, images, labels, bf16=True)
    norms = [name for name, module in net.named_modules() if isinstance(module, nn.LayerNorm)]
    assert len(norms) == 9
    assert error(found, expected, [f"{name}.weight" for name in norms]) < 1e-2
    assert error(found, expected, [f"{name}.bias" for name in norms]) < 1e-2
    assert error(found, expected, [name for name in expected if "norm" not in name]) < 1e-2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_in_other_precisions_it_is_pytorchs_own(dtype):
    torch.manual_seed(0)
    ours, plain = LayerNorm(16, eps=1e-6).to(dtype), nn.LayerNorm(16, eps=1e-6).to(dtype)
    x = torch.randn(3, 5, 16, dtype=dtype)
    for norm in (ours, plain):
        norm(x).square().sum().backward()
    assert torch.equal(ours.weight.grad, plain.weight.grad)
    assert torch.equal(ours.bias.grad, plain.bias.grad)


def test_the_tokens_and_their_gradient_are_pytorchs_own():
    torch.manual_seed(0)
    x = torch.randn(3, 5, 16, dtype=torch.bfloat16, requires_grad=True)
    other = x.detach().clone().requires_grad_()
    y, expected = LayerNorm(16, eps=1e-6)(x), nn.LayerNorm(16, eps=1e-6)(other)
    y.float().square().sum().backward()
    expected.float().square().sum().backward()
    assert torch.equal(y, expected)
    assert torch.equal(x.grad, other.grad)
