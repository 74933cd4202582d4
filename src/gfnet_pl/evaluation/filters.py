"""What the global filters of a trained GFNet learned: kernels, spectra, and the frequencies that tell classes apart.

All of it is about the *effective* filter, the circular convolution that a block carries out, and not about the weight
as it is stored. In the first column of the half spectrum, and in the last where W is even, frequencies k and -k both
have a weight; a real map can have but one, and the inverse transform takes their Hermitian part. So every weight goes
through its kernel in space.

The net stays as it is, its mode, gradients and hooks included. Arrays are float64, whatever the net's type and device.

Axes: H x W tokens, C channels. "Centred" means that the origin is at index (H // 2, W // 2), where fftshift puts it.
Frequencies are in cycles over the map's height (rows) and over its width (columns).
"""

import copy
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from gfnet_pl.model.gfnet import GFNet
from gfnet_pl.model.global_filter import GlobalFilter

Floats = npt.NDArray[np.float64]

_BATCH = 128  # images at a time


def kernels(net: GFNet) -> Floats:
    """The filters in space: a filter's output is the circular convolution of its input with this.

    Returns:
        (depth, C, H, W), centred: the token above the one that is computed has its weight below the centre.
    """
    responses = torch.stack([module.response().detach().cpu().double() for module in _filters(net)])
    spectra = torch.view_as_complex(responses)  # (depth, H, W // 2 + 1, C)
    # A filter's two orthonormal transforms bring 1 / (H * W) between them: that of the plain inverse.
    in_space = torch.fft.irfft2(spectra, s=net.map_size, dim=(1, 2)).permute(0, 3, 1, 2)
    centred: Floats = torch.fft.fftshift(in_space, dim=(2, 3)).numpy()
    return centred


def magnitude(net: GFNet) -> Floats:
    """By how much each frequency is amplified: the magnitude of the effective filter, mean over its channels.

    Returns:
        (depth, H, W), centred; frequencies k and -k have the same.
    """
    mean: Floats = _gain(net).mean(axis=1)
    return mean


def energy_by_radius(net: GFNet) -> Floats:
    """Shares of a filter's energy (squared magnitude, summed over channels) by how fine the pattern is.

    The radius of a frequency is sqrt(rows^2 + columns^2), in cycles per map, rounded. On a map that is not square the
    two directions count cycles over different lengths, so a radius is a number of waves and not a wavelength.

    Returns:
        (depth, R), the radius running from 0 to R - 1, that of the finest frequency; each row sums to 1.
    """
    height, width = net.map_size
    rows, columns = np.arange(height) - height // 2, np.arange(width) - width // 2
    radius = np.rint(np.hypot(rows[:, None], columns)).astype(np.int64).ravel()
    energy = np.square(_gain(net)).sum(axis=1).reshape(-1, radius.size)
    by_radius = np.stack([np.bincount(radius, weights=of_block) for of_block in energy])
    shares: Floats = by_radius / by_radius.sum(axis=1, keepdims=True)
    return shares


def movement(snapshots: npt.ArrayLike) -> Floats:
    """How far each block's filter moved since the epoch before, relative to what it was.

    Args:
        snapshots: (epochs, depth, H, W), what `magnitude` gave after each epoch.

    Returns:
        (epochs, depth), the Frobenius norm of the change over that of the earlier magnitudes; 0 for the first epoch.
    """
    magnitudes = np.asarray(snapshots, np.float64)
    change = np.linalg.norm(np.diff(magnitudes, axis=0), axis=(2, 3))
    relative = change / np.linalg.norm(magnitudes[:-1], axis=(2, 3))
    return np.concatenate([np.zeros_like(magnitudes[:1, :, 0, 0]), relative])


def discriminative_frequencies(net: GFNet, images: Tensor, labels: Tensor, pairs: Sequence[tuple[int, int]]) -> Floats:
    """The frequencies at which the output of the last global filter tells two classes apart.

    The measure is Fisher's ratio (Fisher, "The use of multiple measurements in taxonomic problems", 1936; Duda, Hart
    and Stork, "Pattern Classification", 2nd ed., section 3.8.2) of the C complex coefficients of a frequency: squared
    distance of the two classes' means over the sum of the two traces of their covariances. A coefficient has a phase:
    a pattern that moves about within its class counts as spread. Where the classes do not differ, the ratio is not 0
    but about 1 / n, with n images a class.

    Images of classes in no pair are not looked at. Memory grows with the number of classes in `pairs`, not with N.

    Args:
        net: Evaluated without dropout, on its device.
        images: (N, in_channels, height, width), uint8 or float, in grey levels 0..255.
        labels: (N,) class of each image.
        pairs: P pairs of classes.

    Returns:
        (P, H, W // 2 + 1), not centred: rows in the order of rfft2, frequency zero first. NaN throughout for a pair
        that has a class of fewer than 2 images.
    """
    net = copy.deepcopy(net).eval()
    outputs: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: tuple[Tensor], output: Tensor) -> None:
        outputs.append(output)

    _filters(net)[-1].register_forward_hook(keep)

    classes = torch.tensor(sorted({label for pair in pairs for label in pair}), dtype=torch.int64)  # (K,)
    members = labels.cpu()[:, None] == classes  # (N, K)
    counts = members.sum(0)
    half_spectrum = net.map_size[0], net.map_size[1] // 2 + 1
    # The tokens are float32: what the difference of these float64 sums loses is below the tokens' own rounding.
    sums = torch.zeros(len(classes), *half_spectrum, net.pos_embed.shape[-1], 2, dtype=torch.float64)
    squares = torch.zeros(len(classes), *half_spectrum, dtype=torch.float64)
    wanted = members.any(1).nonzero()[:, 0]
    with torch.inference_mode():
        for start in range(0, len(wanted), _BATCH):
            rows = wanted[start : start + _BATCH]
            net(images[rows.to(images.device)].to(net.mean.device))
            tokens = outputs.pop().cpu().double().reshape(len(rows), *net.map_size, -1)  # (B, H, W, C)
            spectra = torch.view_as_real(torch.fft.rfft2(tokens, dim=(1, 2), norm="ortho"))
            member = members[rows].T.double()  # (K, B)
            sums += torch.tensordot(member, spectra, 1)
            squares += torch.tensordot(member, spectra.square().sum((-2, -1)), 1)

    number = counts.double()[:, None, None]
    means = sums / number[..., None, None]
    variances = (squares - number * means.square().sum((-2, -1))).clamp_min(0) / (number - 1)
    variances[counts < 2] = torch.nan  # 0 / 0, but for rounding
    one, other = torch.searchsorted(classes, torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2)).unbind(1)
    distance = (means[one] - means[other]).square().sum((-2, -1))
    ratio: Floats = (distance / (variances[one] + variances[other])).numpy()
    return ratio


def _filters(net: GFNet) -> list[GlobalFilter]:
    return [module for module in net.modules() if isinstance(module, GlobalFilter)]  # first block first


def _gain(net: GFNet) -> Floats:
    # Kernels are centred, which shifts the spectrum's phases alone.
    gain: Floats = np.abs(np.fft.fftshift(np.fft.fft2(kernels(net)), axes=(2, 3)))
    return gain
