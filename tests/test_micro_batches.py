"""A batch in parts gives the gradient of the whole batch."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gfnet_pl.cli import main
from gfnet_pl.data.batches import Batch
from gfnet_pl.model.gfnet import GFNet
from gfnet_pl.training import micro_batches
from gfnet_pl.training.micro_batches import in_parts, largest_activation, mean_loss

CPU = torch.device("cpu")


def batch_of(images, seeds=True):
    return Batch(
        torch.arange(images * 4.0).reshape(images, 1, 2, 2),
        torch.arange(images) % 3,
        torch.arange(images) if seeds else None,
    )


@pytest.mark.parametrize(("images", "sizes"), [(10, [10]), (11, [6, 5]), (25, [9, 9, 7]), (1, [1])])
@pytest.mark.parametrize("seeds", [True, False])
def test_a_batch_is_cut_evenly_so_that_no_part_is_too_large(images, sizes, seeds, monkeypatch):
    monkeypatch.setattr(micro_batches, "LARGEST", 109)  # ten images of ten numbers
    batch = batch_of(images, seeds)
    parts = in_parts(batch, 10, CPU)
    assert [len(part.labels) for part in parts] == sizes
    assert torch.equal(torch.cat([part.images for part in parts]), batch.images)
    assert torch.equal(torch.cat([part.labels for part in parts]), batch.labels)
    if seeds:
        assert torch.equal(torch.cat([part.seeds for part in parts]), batch.seeds)
    else:
        assert all(part.seeds is None for part in parts)


def test_the_largest_activation_is_the_hidden_one_of_an_mlp():
    net, largest = GFNet(image_size=(16, 24), patch_size=4, dim=6, depth=2, mlp_ratio=3, num_classes=3), 0

    def look(_module, _inputs, output):
        nonlocal largest
        largest = max(largest, output[0].numel())

    for module in net.modules():
        module.register_forward_hook(look)
    net.eval()(torch.zeros(2, 1, 16, 24))
    assert largest_activation(net) == largest == 24 * 18


def test_images_larger_than_a_part_come_one_by_one_and_a_gpu_takes_them_all():
    assert len(in_parts(batch_of(5), 10**9, CPU)) == 5
    assert len(in_parts(batch_of(5), 10**9, torch.device("cuda"))) == 1


@pytest.mark.parametrize("cuts", [[7], [4, 3], [3, 3, 1]])
def test_gradients_are_those_of_the_whole_batch(cuts):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.GELU(), nn.Linear(5, 3)).double()
    images, labels = torch.randn(7, 1, 2, 2, dtype=torch.float64), torch.arange(7) % 3
    parameters = list(net.parameters())

    def loss_of(part):
        return F.cross_entropy(net(part.images), part.labels)

    expected = loss_of(Batch(images, labels))
    gradients = torch.autograd.grad(expected, parameters)
    parts = [Batch(*part) for part in zip(images.split(cuts), labels.split(cuts), strict=True)]
    loss = mean_loss(loss_of, parts, parameters)
    assert all(parameter.grad is None for parameter in parameters)  # backward is the caller's
    (loss / 2).backward()
    torch.testing.assert_close(loss.detach(), expected.detach())
    for parameter, gradient in zip(parameters, gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient / 2, rtol=0, atol=1e-15)


def test_activations_of_a_part_are_freed_before_the_next():
    """Peak bytes of what autograd keeps: of one part, however many there are."""
    layer = nn.Linear(4, 4)
    kept, most = set(), 0

    class Held:
        def __init__(self, tensor):
            self.tensor = tensor
            kept.add(id(self))

        def __del__(self):
            kept.discard(id(self))

    def pack(tensor):
        nonlocal most
        held = Held(tensor)
        most = max(most, len(kept))
        return held

    def loss_of(part):
        return layer(part.images.flatten(1)).square().mean()

    found = []
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda held: held.tensor):
        for size in (8, 2):
            most = 0
            whole = batch_of(8)
            parts = [Batch(*part) for part in zip(whole.images.split(size), whole.labels.split(size), strict=False)]
            mean_loss(loss_of, parts, list(layer.parameters())).backward()
            found.append(most)
    assert found[1] <= found[0] + 2  # the factor of a part's loss is kept as well


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_run_in_parts_ends_as_a_run_in_whole_batches(tiny, precision, accumulate, monkeypatch):
    options = ["--model.dropout=0", "--model.drop_path=0", f"--trainer.precision={precision}"]
    options += [
        f"--trainer.accumulate_grad_batches={accumulate}",
        "--data.batch_size=10",
        "--data.augment.erasing=0.25",
    ]
    found = []
    for stage, largest in (("whole", 10**9), ("parts", 3 * 16 * 64)):
        monkeypatch.setattr(micro_batches, "LARGEST", largest)
        assert main([*tiny, *options, f"--stage={stage}"]) == 0
        assert main(["test", "--trainer.enable_progress_bar=false"]) == 0
        checkpoint = torch.load(f"runs/{stage}/version_0/checkpoints/last.ckpt", weights_only=True)
        found.append((checkpoint["state_dict"], checkpoint["global_step"]))
    (whole, steps), (parts, parts_steps) = found
    assert steps == parts_steps
    tolerance = 1e-5 if precision == "32-true" else 2e-3
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=0, atol=tolerance, msg=name)
