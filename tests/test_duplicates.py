import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from PIL import Image

from gfnet_pl.data.duplicates import Leaked, border_of, clusters, leak_share, nearest_twins
from gfnet_pl.data.prints import fingerprints
from gfnet_pl.hand_signs.drawing import render

A, B = render("A", signer=2, frame=0).astype(float), render("B", signer=1, frame=0).astype(float)


def grey(pixels):
    return np.clip(np.round(pixels), 0, 255).astype(np.uint8)


def printed(*pictures):
    return fingerprints(np.stack([grey(picture) for picture in pictures]), np.arange(len(pictures)))


def twin_of(one, other):
    twin, correlation = nearest_twins(printed(one, other), [0], [1])
    return int(twin[0]), float(correlation[0])


def noise(count, side=32, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, side, side), dtype=np.uint8)


def reencoded(tmp_path, pixels):
    Image.fromarray(grey(pixels)).save(tmp_path / "a.jpg", quality=50)
    return np.asarray(Image.open(tmp_path / "a.jpg"))


def test_equal_pixels_correlate_exactly_one_and_no_others_do(tmp_path):
    other = A.copy()
    other[40, 40] += 1
    assert twin_of(A, A) == (1, 1.0)
    twin, correlation = twin_of(A, other)
    assert twin == 1
    assert 0.999 < correlation < 1


@pytest.mark.parametrize("change", ["jpeg", "brighter", "contrast", "grain", "shifted"])
def test_a_copy_that_looks_the_same_is_a_twin(tmp_path, change):
    copy = {
        "jpeg": lambda: reencoded(tmp_path, A),
        "brighter": lambda: A + 12,
        "contrast": lambda: 100 + 0.8 * (A - 100),
        "grain": lambda: A + np.random.default_rng(0).normal(0, 6, A.shape),
        "shifted": lambda: np.concatenate([A[:, :1], A[:, :-1]], axis=1),
    }[change]()
    twin, correlation = twin_of(A, copy)
    assert twin == 1
    assert 0.98 <= correlation < 1


@pytest.mark.parametrize("other", [B, 255 - A, A.T, A[::-1], np.roll(A, 12, axis=1)])
def test_another_picture_is_no_twin(other):
    assert twin_of(A, other) == (-1, 0.0)


def test_blank_pictures_are_twins_only_where_they_are_equal():
    prints = printed(np.full((96, 96), 37), np.full((96, 96), 37), np.full((96, 96), 38), A)
    twin, correlation = nearest_twins(prints, [0, 1, 2, 3], [0, 1, 2, 3])
    assert twin.tolist() == [1, 0, -1, -1]
    assert correlation.tolist() == [1, 1, 0, 0]
    assert clusters(prints).tolist() == [0, 0, 2, 3]


def test_a_picture_is_never_its_own_twin():
    prints = printed(A, B)
    assert nearest_twins(prints, [0, 1], [0, 1])[0].tolist() == [-1, -1]


def test_the_best_twin_is_chosen_and_an_exact_one_before_all():
    prints = printed(A, A + np.random.default_rng(0).normal(0, 10, A.shape), A + 3, A, B)
    twin, correlation = nearest_twins(prints, [0, 3, 4], [1, 2])
    assert twin.tolist() == [2, 2, -1]
    assert nearest_twins(prints, [0, 3], [0, 1, 2, 3])[0].tolist() == [3, 0]
    assert correlation[0] < 1


def test_no_queries_and_no_pool_are_answered():
    prints = printed(A, B)
    assert nearest_twins(prints, [], [0])[0].tolist() == []
    assert nearest_twins(prints, [0], [])[0].tolist() == [-1]
    none = fingerprints(np.empty((0, 96, 96), np.uint8), [])
    assert clusters(none).tolist() == []


@pytest.mark.parametrize("size", [(96, 96), (64, 48), (100, 30), (5, 7)])
def test_thumbnails_are_box_averages_at_any_size(size):
    picture = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    cells = np.kron(
        picture.astype(float), np.ones((32, 32))
    )  # every pixel 32 x 32 times: cells are whole numbers of it
    small = cells.reshape(32, size[0], 32, size[1]).mean((1, 3))
    small -= small.mean()
    got = fingerprints(picture[None], [0]).thumbnails[0].float().reshape(32, 32)
    torch.testing.assert_close(got, torch.tensor(small / np.linalg.norm(small)).float(), atol=1e-4, rtol=1e-3)


def test_only_the_rows_asked_for_are_read_and_in_their_order():
    images = noise(600)
    rows = np.random.default_rng(1).permutation(600)[:500]
    prints, whole = fingerprints(images, rows), fingerprints(images, np.arange(600))
    torch.testing.assert_close(prints.thumbnails, whole.thumbnails[torch.from_numpy(rows)], atol=2e-4, rtol=0)
    np.testing.assert_array_equal(prints.digests, whole.digests[rows])


def clips(count, frames, seed=0):
    """Clips of slowly changing pictures with fresh grain, in a random order, some of them blank: (pixels, clip)."""
    rng = np.random.default_rng(seed)
    base, drift = rng.normal(0, 1, (2, count, 1, 8, 8))
    time = np.linspace(0, 1.2, frames)[:, None, None]
    small = np.cos(time) * base + np.sin(time) * drift
    pixels = 128 + 40 * np.kron(small, np.ones((4, 4))) + rng.normal(0, 3, (count, frames, 32, 32))
    pixels[::17] = 90
    order = rng.permutation(count * frames)
    return grey(pixels).reshape(-1, 32, 32)[order], np.repeat(np.arange(count), frames)[order]


def all_correlations(pixels):
    flat = pixels.reshape(len(pixels), -1).astype(np.float64)
    flat -= flat.mean(1, keepdims=True)
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-9)
    return flat @ flat.T


def test_no_twin_is_missed_against_all_correlations_in_float64():
    pixels, _ = clips(300, 10)
    exact = all_correlations(pixels)
    np.fill_diagonal(exact, 0)
    blank = (pixels == 90).all((1, 2))
    queries, pool = np.arange(0, 3000, 3), np.arange(3000)[::-1]  # more than one block
    twin, correlation = nearest_twins(fingerprints(pixels, np.arange(3000)), queries, pool)
    best = exact[np.ix_(queries, pool)].max(1)
    clear = ~blank[queries] & (np.abs(best - 0.98) > 1e-4)
    assert 200 < (best[clear] >= 0.98).sum() < clear.sum() - 5  # both answers are asked for
    np.testing.assert_array_equal(twin[clear] >= 0, best[clear] >= 0.98)
    found = clear & (twin >= 0)
    np.testing.assert_allclose(correlation[found], best[found], atol=1e-4)
    np.testing.assert_allclose(exact[queries[found], twin[found]], best[found], atol=1e-4)
    assert (correlation[blank[queries]] == 1).all()


def test_no_twin_is_missed_where_a_run_has_lowered_the_precision_of_products():
    # Smooth pictures: nothing is left out of their outlines, so that the bound is the correlation itself. Pairs are as
    # near to the limit as rounding to grey levels allows, and asked for one at a time, so that none brings another.
    place = (np.arange(32) + 0.5) * np.pi / 32
    waves = np.cos(place * np.arange(7)[:, None])
    one, other = np.random.default_rng(0).normal(0, 1, (2, 400, 7, 7))
    one[:, 0, 0] = other[:, 0, 0] = 0
    turned = 0.9803 * one + np.sqrt(1 - 0.9803**2) * other
    pixels = grey(128 + 9 * (waves.T @ np.concatenate([one, turned]) @ waves))
    correlation = np.diagonal(all_correlations(pixels), 400)
    twins = np.flatnonzero((correlation >= 0.98001) & (correlation < 0.983))
    assert len(twins) > 50
    prints = fingerprints(pixels, np.arange(800))
    prints = prints._replace(outlines=prints.outlines.bfloat16().float())  # what bf16 does to an operand
    assert all(nearest_twins(prints, [twin], [twin + 400])[0] == twin + 400 for twin in twins)


def test_a_twin_that_differs_in_one_frequency_alone_is_within_reach():
    place = (np.arange(32) + 0.5) * np.pi / 32
    one, other = np.cos(3 * place)[:, None] + np.zeros(32), np.cos(5 * place) + np.zeros((32, 1))
    angles = np.pi / 2 + np.array([0.097, -0.097, -np.pi / 2, np.pi / 2])  # the last two make `one` differ most
    prints = fingerprints(
        grey(128 + 60 * (np.cos(angles[:, None, None]) * one + np.sin(angles[:, None, None]) * other)), range(4)
    )
    twin, correlation = nearest_twins(prints, [0], [1, 2, 3])
    assert twin == 1
    assert 0.98 <= correlation[0] < 0.982


def test_clusters_are_the_connected_components_and_named_by_their_first_picture():
    pixels, _ = clips(150, 20)
    links = all_correlations(pixels) >= 0.98
    blank = (pixels == 90).all((1, 2))
    links |= blank[:, None] & blank
    one, other = np.nonzero(links)
    expected = np.arange(len(pixels))
    while True:
        spread = expected.copy()
        np.minimum.at(spread, one, expected[other])
        if (spread == expected).all():
            break
        expected = spread
    got = clusters(fingerprints(pixels, np.arange(len(pixels))))
    np.testing.assert_array_equal(got, expected)
    assert 100 < len(np.unique(got)) < 1500


def test_a_clip_is_one_cluster_though_its_ends_are_no_twins():
    pixels, clip = clips(3, 200)
    pixels, ordered = pixels[clip == 1], all_correlations(pixels[clip == 1])
    assert ordered.min() < 0.9
    assert (clusters(fingerprints(pixels, np.arange(200))) == 0).all()


def alike(count, seed=0):
    """Pictures that are the same but for light and slow changes, 48 x 48, and a code of two classes."""
    rng = np.random.default_rng(seed)
    place = (np.arange(48) + 0.5) * np.pi / 48
    waves = np.cos(place * np.arange(1, 6)[:, None])  # (5, 48)
    common = 60 * np.cos(6 * place) * np.sin(place)[:, None]
    pixels = 128 + common + waves.T @ rng.normal(0, 1.5, (count, 5, 5)) @ waves + rng.normal(0, 4, (count, 48, 48))
    return grey(pixels), (np.arange(count) % 2)[:, None]


def share_with_twin(prints, border):
    everyone = np.arange(len(prints.digests))
    return (nearest_twins(prints, everyone, everyone, border)[0] >= 0).mean()


def test_pictures_that_all_look_alike_are_no_twins_and_their_copies_are(tmp_path):
    pixels, kinds = alike(500)
    prints = fingerprints(pixels, np.arange(500))
    border = border_of(prints, kinds)
    assert share_with_twin(prints, 0.98) > 0.5
    assert share_with_twin(prints, border) < 0.03
    assert 0.985 < border < 0.995
    copies = np.stack([*(reencoded(tmp_path, picture) for picture in pixels[:50]), *grey(1.15 * pixels[:50] + 10.0)])
    both = fingerprints(np.concatenate([pixels, copies]), np.arange(600))
    codes = np.concatenate([kinds, 1 - kinds[:50], kinds[:50]])  # half of them under another class
    border = border_of(both, codes)
    twin, _ = nearest_twins(both, np.arange(500, 600), np.arange(500), border)
    assert (twin == np.arange(100) % 50).mean() > 0.97
    assert len(np.unique(clusters(both, border))) > 450


def test_the_border_is_the_usual_one_where_different_pictures_differ():
    pixels, clip = clips(30, 20)
    prints = fingerprints(pixels, np.arange(600))
    assert border_of(prints, clip[:, None]) == 0.98
    assert border_of(prints, np.zeros((600, 1))) == 0.98  # nothing says which are different
    assert border_of(fingerprints(np.full((50, 32, 32), 7, np.uint8), np.arange(50)), np.arange(50)[:, None]) == 0.98
    few, kinds = alike(6)
    assert border_of(fingerprints(few, np.arange(6)), kinds) == 0.98


def test_copies_under_other_classes_do_not_move_the_border():
    pixels = np.concatenate([noise(300), noise(300)])  # every picture once more, under another class
    kinds = np.repeat([[0], [1]], 300, 0)
    assert border_of(fingerprints(pixels, np.arange(600)), kinds) == 0.98


def test_a_few_people_whose_pictures_are_alike_across_classes_do_not_move_the_border():
    rng = np.random.default_rng(0)
    person, label, frame = np.unravel_index(np.arange(3 * 12 * 8), (3, 12, 8))
    room, drift = rng.normal(0, 40, (3, 16, 16)), frame[:, None, None] * rng.normal(0, 0.8, (1, 16, 16))
    sign = rng.normal(0, 1, (12, 16, 16)) * np.linspace(6, 40, 12)[:, None, None]
    pixels = grey(128 + np.kron(room[person] + sign[label] + drift, np.ones((2, 2))))
    prints = fingerprints(pixels, np.arange(len(pixels)))
    assert 0.95 < all_correlations(pixels)[label[:, None] != label].max() < 0.98  # rare ones: the usual are far below
    assert border_of(prints, label[:, None]) == 0.98


def test_groups_keep_pictures_of_one_person_from_moving_the_border():
    pixels, person = clips(12, 30)
    prints = fingerprints(pixels, np.arange(360))
    label = np.arange(360) % 3
    assert border_of(prints, label[:, None]) > 0.98
    assert border_of(prints, np.stack([label, person], 1)) == 0.98


def test_a_leak_of_what_chance_does_is_no_warning():
    pixels, kinds = alike(400)
    halves = np.split(np.arange(400), 2)
    assert leak_share(pixels, np.arange(400), *halves).share > 0.3
    leaked = leak_share(pixels, np.arange(400), *halves, kinds)
    assert leaked.border > 0.985
    assert not leaked.is_leak
    assert Leaked(0.06, leaked.border).is_leak
    assert Leaked(0.02, 0.98).is_leak
    assert not Leaked(0.005, 0.98).is_leak


def test_the_leak_is_the_share_with_a_twin_in_training():
    images = noise(100)
    images[:10] = images[90:]
    rows = np.arange(100)
    assert leak_share(images, rows, np.arange(40), np.arange(40, 100)).share == 0.25
    assert leak_share(images, rows, np.arange(10, 40), np.arange(40, 100)).share == 0


def test_the_leak_of_nothing_is_none():
    images = noise(4)
    assert leak_share(images, np.arange(4), np.array([], int), np.arange(4)).share == 0
    assert leak_share(images, np.arange(4), np.arange(4), np.array([], int)).share == 0


def test_broken_pictures_take_no_part_in_the_leak():
    images = noise(10)
    images[-1] = images[0]
    assert leak_share(images, np.array([0, 1, -1, -1, 2]), np.arange(2), np.arange(2, 5)).share == 0
    assert leak_share(images, np.array([0, -1, -1, 9]), np.arange(2), np.arange(2, 4)).share == 1


def test_a_sampled_leak_is_repeatable_and_a_lower_bound_that_videos_stay_close_to():
    pixels, _ = clips(16, 100)
    evaluated, trained = np.arange(0, 1600, 4), np.flatnonzero(np.arange(1600) % 4)
    whole = leak_share(pixels, np.arange(1600), evaluated, trained).share
    sampled = leak_share(pixels, np.arange(1600), evaluated, trained, limit=20).share
    assert sampled == leak_share(pixels, np.arange(1600), evaluated, trained, limit=20).share
    assert whole > 0.99
    assert 0.9 <= sampled <= 1
    copies = np.concatenate([noise(2000, 8), noise(2000, 8)])
    assert leak_share(copies, np.arange(4000), np.arange(2000), np.arange(2000, 4000)).share == 1
    assert 0.2 < leak_share(copies, np.arange(4000), np.arange(2000), np.arange(2000, 4000), limit=40).share < 0.6


def test_memory_stays_bounded_where_every_picture_is_a_twin_of_every_other(tmp_path):
    """10,000 pictures have 50 million pairs of twins; of 92 MB of pixels and all pairs nothing may stay in memory."""
    script = f"""
        import threading, time, numpy as np, torch
        torch.set_num_threads(1)
        from gfnet_pl.data.duplicates import clusters, nearest_twins
        from gfnet_pl.data.prints import fingerprints
        def private():
            line = next(line for line in open("/proc/self/status") if line.startswith("RssAnon"))
            return int(line.split()[1]) / 1000
        images = np.lib.format.open_memmap({str(tmp_path / "a.npy")!r}, "w+", np.uint8, (10_000, 96, 96))
        picture = np.random.default_rng(0).integers(0, 200, (96, 96))
        for row in range(10_000):
            images[row] = picture + row % 50
        images = np.lib.format.open_memmap({str(tmp_path / "a.npy")!r}, "r")
        fingerprints(images, np.arange(300))
        before, peak, running = private(), [0.0], [True]
        def watch():
            while running:
                peak[0] = max(peak[0], private())
                time.sleep(0.01)
        thread = threading.Thread(target=watch)
        thread.start()
        prints = fingerprints(images, np.arange(10_000))
        found = clusters(prints)
        twin, _ = nearest_twins(prints, np.arange(2_000), np.arange(10_000))
        running.clear()
        thread.join()
        assert (found == 0).all() and (twin >= 0).all()
        print(peak[0] - before)
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) < 23 + 110  # 2.3 kB a picture, and the work on blocks
