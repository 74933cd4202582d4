"""What the global filters of a trained GFNet learned: kernels, spectra, and the frequencies that separate classes.

All functions describe the *effective* filter, the circular convolution that a block carries out. It can differ from the
stored weight: in the first column of the half spectrum, and in the last one if W is even, frequencies k and -k each
have a weight of their own. For a real map the two must be complex conjugates, so the inverse transform uses only their
Hermitian part. Every weight is therefore first turned into its kernel in space.

The functions do not change the net, neither its mode nor its gradients nor its hooks. Arrays are float64, for any dtype
and device of the net.

Axes: H x W tokens of the first stage, C channels. "Centred" means that the origin is at index (H // 2, W // 2), where
fftshift puts it. Frequencies are in cycles over the map's height (rows) and over its width (columns): over the picture,
in each stage. A further stage has fewer, and so zeros where the first one has finer ones.
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


def kernels(net: GFNet) -> list[Floats]:
    """The kernels of the filters in space: the output of a filter is the circular convolution of input and kernel.

    Returns:
        For each block (C, H, W) with the channels and the map of its stage, centred. In a convolution, the weight of
        the token above the computed one is below the centre.
    """
    return [_kernel(module) for module in _filters(net)]


def _kernel(module: GlobalFilter) -> Floats:
    spectrum = torch.view_as_complex(module.response().detach().cpu().double())  # (H, W // 2 + 1, C)
    # The two orthonormal transforms of a filter together contribute 1 / (H * W), as the plain inverse alone does.
    in_space = torch.fft.irfft2(spectrum, s=module.map_size, dim=(0, 1)).permute(2, 0, 1)
    centred: Floats = torch.fft.fftshift(in_space, dim=(1, 2)).numpy()
    return centred


def magnitude(net: GFNet) -> Floats:
    """How much each frequency is amplified: the magnitude of the effective filter, averaged over its channels.

    Returns:
        (depth, H, W), centred. Frequencies k and -k have the same magnitude.
    """
    return np.stack([_among_finer(gain.mean(axis=0), net) for gain in _gains(net)])


def energy_by_radius(net: GFNet) -> Floats:
    """How a filter's energy (squared magnitude, summed over channels) is distributed over coarse and fine patterns.

    The radius of a frequency is sqrt(rows^2 + columns^2), in cycles per map, rounded. On a map that is not square,
    cycles along height and width have different lengths, so a radius is a number of waves and not a wavelength.

    Returns:
        (depth, R) shares for radius 0 to R - 1, the radius of the finest frequency. Each row sums to 1.
    """
    height, width = net.map_size
    rows, columns = np.arange(height) - height // 2, np.arange(width) - width // 2
    radius = np.rint(np.hypot(rows[:, None], columns)).astype(np.int64).ravel()
    energy = [_among_finer(np.square(gain).sum(axis=0), net).ravel() for gain in _gains(net)]
    by_radius = np.stack([np.bincount(radius, weights=of_block) for of_block in energy])
    shares: Floats = by_radius / by_radius.sum(axis=1, keepdims=True)
    return shares


def movement(snapshots: npt.ArrayLike) -> Floats:
    """How much the filter of each block changed since the epoch before.

    Args:
        snapshots: (epochs, depth, H, W), the results of `magnitude` after each epoch.

    Returns:
        (epochs, depth), the Frobenius norm of the change divided by that of the earlier magnitudes; 0 for the first
        epoch.
    """
    magnitudes = np.asarray(snapshots, np.float64)
    change = np.linalg.norm(np.diff(magnitudes, axis=0), axis=(2, 3))
    relative = change / np.linalg.norm(magnitudes[:-1], axis=(2, 3))
    return np.concatenate([np.zeros_like(magnitudes[:1, :, 0, 0]), relative])


def discriminative_frequencies(net: GFNet, images: Tensor, labels: Tensor, pairs: Sequence[tuple[int, int]]) -> Floats:
    """How well each frequency in the output of the last global filter separates two classes.

    The measure is Fisher's ratio (Fisher, "The use of multiple measurements in taxonomic problems", 1936; Duda, Hart
    and Stork, "Pattern Classification", 2nd ed., section 3.8.2) of the C complex coefficients of a frequency: the
    squared distance of the two classes' means, divided by the sum of the traces of their two covariances. Coefficients
    have a phase, so a pattern whose place varies within its class has a large variance. If the classes do not differ,
    the ratio is not 0 but about 1 / n for n images per class.

    Images of classes in no pair are ignored. Memory grows with the number of classes in `pairs`, not with N.

    Args:
        net: Evaluated without dropout, on its device.
        images: (N, in_channels, height, width), uint8 or float, in grey levels 0..255.
        labels: (N,) class of each image.
        pairs: P pairs of classes.

    Returns:
        (P, H, W // 2 + 1) ratios, not centred: rows in the order of rfft2, frequency zero first. H and W are those of
        the last stage. All NaN for a pair in which a class has fewer than 2 images.
    """
    net = copy.deepcopy(net).eval()
    outputs: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: tuple[Tensor], output: Tensor) -> None:
        outputs.append(output)

    last = _filters(net)[-1]
    last.register_forward_hook(keep)

    classes = torch.tensor(sorted({label for pair in pairs for label in pair}), dtype=torch.int64)  # (K,)
    members = labels.cpu()[:, None] == classes  # (N, K)
    counts = members.sum(0)
    half_spectrum = last.map_size[0], last.map_size[1] // 2 + 1
    # The tokens are float32, so the difference of these float64 sums loses less than the rounding of the tokens.
    sums = torch.zeros(len(classes), *half_spectrum, last.complex_weight.shape[2], 2, dtype=torch.float64)
    squares = torch.zeros(len(classes), *half_spectrum, dtype=torch.float64)
    wanted = members.any(1).nonzero()[:, 0]
    with torch.inference_mode():
        for start in range(0, len(wanted), _BATCH):
            rows = wanted[start : start + _BATCH]
            net.features(images[rows.to(images.device)].to(net.mean.device), one_view=True)
            tokens = outputs.pop().cpu().double().reshape(len(rows), *last.map_size, -1)  # (B, H, W, C)
            spectra = torch.view_as_real(torch.fft.rfft2(tokens, dim=(1, 2), norm="ortho"))
            member = members[rows].T.double()  # (K, B)
            sums += torch.tensordot(member, spectra, 1)
            squares += torch.tensordot(member, spectra.square().sum((-2, -1)), 1)

    number = counts.double()[:, None, None]
    means = sums / number[..., None, None]
    variances = (squares - number * means.square().sum((-2, -1))).clamp_min(0) / (number - 1)
    variances[counts < 2] = torch.nan  # would be 0 / 0 without rounding errors
    one, other = torch.searchsorted(classes, torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2)).unbind(1)
    distance = (means[one] - means[other]).square().sum((-2, -1))
    ratio: Floats = (distance / (variances[one] + variances[other])).numpy()
    return ratio


def _filters(net: GFNet) -> list[GlobalFilter]:
    return [module for module in net.modules() if isinstance(module, GlobalFilter)]  # first block first


def _gains(net: GFNet) -> list[Floats]:
    """For each block (C, H, W) of its stage, centred."""
    # Kernels are centred, which changes only the phases of the spectrum.
    return [np.abs(np.fft.fftshift(np.fft.fft2(kernel), axes=(1, 2))) for kernel in kernels(net)]


def _among_finer(spectrum: Floats, net: GFNet) -> Floats:
    """Puts the centred spectrum of a stage's map among the frequencies of the first stage's."""
    whole = np.zeros(net.map_size)
    rows, columns = (
        slice(side // 2 - own // 2, side // 2 - own // 2 + own)
        for side, own in zip(net.map_size, spectrum.shape, strict=True)
    )
    whole[rows, columns] = spectrum
    return whole
