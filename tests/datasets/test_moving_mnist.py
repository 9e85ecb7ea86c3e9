"""Moving MNIST: the rules of its motion, its determinism, the published test file."""

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framelift.datasets import MovingMNIST, find_maker, open_dataset
from framelift.datasets.moving_mnist import read_idx_images, trajectories
from framelift.errors import InputError, UsageError

MNIST = Path(__file__).parents[2] / ".." / "shared" / "data" / "mnist"
real = pytest.mark.skipif(
    not MNIST.is_dir(),
    reason="runs where MNIST lies in ../shared/data/mnist: it is not part of this repository",
)


def idx(images):
    head = [0x803, *images.shape]
    return b"".join(int(n).to_bytes(4) for n in head) + images.tobytes()


def trajectory(rng, frames, step):
    """The path of one digit, drawn as a clip draws it."""
    return trajectories(rng.random(2), np.asarray(rng.uniform(0, 2 * np.pi)), frames, step)


@pytest.fixture(scope="module")
def mnist(tmp_path_factory):
    """Solid digits of known brightness: 40 to train on, 10 to validate on, brighter by 100."""
    root = tmp_path_factory.mktemp("mnist")
    for name, count, base in (("train-images", 40, 50), ("t10k-images", 10, 150)):
        levels = np.arange(base, base + count, dtype=np.uint8)[:, None, None]
        images = np.broadcast_to(levels, (count, 28, 28))
        (root / f"{name}-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
    return root


@given(seed=st.integers(0, 2**32), step=st.floats(0.01, 0.3), frames=st.integers(2, 60))
def test_digits_keep_their_speed_and_bounce_off_the_borders(seed, step, frames):
    rng = np.random.default_rng(seed)
    places = trajectory(rng, frames, step)
    assert places.min() >= 0
    assert places.max() <= 1
    moves = np.diff(places, axis=0)
    inside = (places[1:] > 0) & (places[1:] < 1)
    whole = inside.all(axis=1)
    np.testing.assert_allclose(np.hypot(*moves[whole].T), step, rtol=1e-9)
    for axis in (0, 1):
        speeds = np.abs(moves[inside[:, axis], axis])
        np.testing.assert_allclose(speeds, speeds[:1].repeat(len(speeds)), atol=1e-12)
        turns = moves[1:, axis] * moves[:-1, axis] < 0
        assert not inside[:-1, axis][turns].any()  # only where it touched a border


def test_one_step_precedes_the_first_frame():
    for seed in range(50):
        start = np.random.default_rng(seed).random(2)
        first = trajectory(np.random.default_rng(seed), 1, 0.1)[0]
        if (first > 0).all() and (first < 1).all():
            assert np.hypot(*(first - start)) == pytest.approx(0.1)


def test_starts_and_directions_are_uniform():
    rng = np.random.default_rng(0)
    paths = np.stack([trajectory(rng, 2, 1e-6) for _ in range(4000)])
    starts, moves = paths[:, 0], paths[:, 1] - paths[:, 0]
    angles = np.arctan2(*moves.T)
    counts = np.histogram2d(*starts.T, bins=4, range=[[0, 1], [0, 1]])[0]
    assert abs(counts / 250 - 1).max() < 0.3
    assert abs(np.histogram(angles, bins=8, range=(-np.pi, np.pi))[0] / 500 - 1).max() < 0.2


def test_the_standard_clip(mnist):
    made = MovingMNIST(mnist)
    assert len(made) == 20_000
    clip = made[0]
    assert (clip.shape, clip.dtype) == ((10, 64, 64), np.uint8)
    for frame in clip:
        levels = sorted(set(np.unique(frame)) - {0})
        assert 1 <= len(levels) <= 2
        assert (frame == levels[-1]).sum() == 28 * 28  # the brighter digit is whole
        assert all(50 <= level < 90 for level in levels)


def test_pixels_follow_the_trajectory_truncated_to_whole_pixels(mnist):
    made = MovingMNIST(mnist, digits=1, frames=40)
    for index in range(20):
        rng = np.random.default_rng([0, 0, index])
        rng.integers(40)
        expected = np.floor(trajectory(rng, 40, 0.1) * 36)
        found = [np.argwhere(frame)[0] for frame in made[index]]
        np.testing.assert_array_equal(found, expected)
        moves = np.diff(np.stack(found), axis=0)
        assert np.hypot(*moves.T).max() < 3.6 + np.sqrt(2)


@given(seed=st.integers(0, 9), index=st.integers(0, 19_999), frames=st.integers(1, 30))
def test_a_clip_is_a_function_of_seed_and_index(mnist, seed, index, frames):
    one, two = (MovingMNIST(mnist, frames=f, seed=seed) for f in (frames, 30))
    two[(index + 1) % 20_000]
    np.testing.assert_array_equal(one[index], two[index][:frames])


def test_clips_made_together_are_the_clips_made_alone(mnist):
    made = MovingMNIST(mnist, "many")
    indices = [5, 199_999, 0, 5]
    np.testing.assert_array_equal(made.make(indices), [made[i] for i in indices])
    maker = find_maker("moving-mnist", mnist, "many")
    np.testing.assert_array_equal(maker.make(indices), made.make(indices))
    assert find_maker("moving-mnist", mnist, "test") is None  # a file holds it


def test_seeds_splits_and_indices_differ(mnist):
    clips = [
        MovingMNIST(mnist)[0],
        MovingMNIST(mnist)[1],
        MovingMNIST(mnist, seed=1)[0],
        MovingMNIST(mnist, "val")[0],
    ]
    shapes = {(clip > 0).tobytes() for clip in clips}
    assert len(shapes) == 4
    assert clips[3].max() >= 150


def test_size_and_number_of_digits(mnist):
    clip = MovingMNIST(mnist, size=32, digits=3, frames=4)[5]
    assert clip.shape == (4, 32, 32)
    assert (MovingMNIST(mnist, size=28)[0] > 0).all()
    for wrong in ({"size": 27}, {"frames": 0}, {"digits": 0}, {"split": "test"}):
        with pytest.raises(UsageError):
            MovingMNIST(mnist, **wrong)
    with pytest.raises(IndexError):
        MovingMNIST(mnist)[20_000]


def test_as_a_dataset(mnist):
    dataset = open_dataset("moving-mnist", mnist, "val")
    assert len(dataset.clips) == 10_000
    clip = dataset.clips[7]
    frames = np.stack(list(clip.gt.frames()))
    assert frames.shape == (10, 64, 64, 3)
    np.testing.assert_array_equal(frames[..., 1], MovingMNIST(mnist, "val")[7])
    assert dataset.deviations == ("There are 10 digits; published are 10000.",)


def test_the_published_file(tmp_path):
    with pytest.raises(InputError, match="--split train"):
        open_dataset("moving-mnist", tmp_path)
    videos = np.random.default_rng(0).integers(0, 256, (20, 3, 64, 64), np.uint8)
    np.save(tmp_path / "mnist_test_seq.npy", videos)
    dataset = open_dataset("moving-mnist", tmp_path)
    assert [len(clip) for clip in dataset.clips] == [20, 20, 20]
    frames = np.stack(list(dataset.clips[2].gt.frames(5, 9)))
    np.testing.assert_array_equal(frames, np.repeat(videos[5:9, 2, ..., None], 3, axis=3))
    assert "published is [20, 10000, 64, 64]" in dataset.deviations[0]
    for wrong in (np.zeros((3, 4)), np.zeros((2, 2, 64, 64), np.float32)):
        np.save(tmp_path / "mnist_test_seq.npy", wrong)
        with pytest.raises(InputError, match="not uint8"):
            open_dataset("moving-mnist", tmp_path)
    (tmp_path / "mnist_test_seq.npy").write_bytes(b"<html>")
    with pytest.raises(InputError, match="not a NumPy file"):
        open_dataset("moving-mnist", tmp_path)
    (tmp_path / "mnist_test_seq.npy").write_bytes(b"")
    with pytest.raises(InputError, match="not a NumPy file"):
        open_dataset("moving-mnist", tmp_path)


def test_damaged_idx_files(tmp_path):
    path = tmp_path / "train-images-idx3-ubyte"
    whole = idx(np.zeros((3, 28, 28), np.uint8))
    path.write_bytes(whole)
    assert read_idx_images(path).shape == (3, 28, 28)
    for data in (whole[:-1], b"", b"\0" * 2000, gzip.compress(whole)[:-9], b"\x1f\x8bjunk"):
        path.write_bytes(data)
        with pytest.raises(InputError, match=r"train-images-idx3-ubyte"):
            MovingMNIST(tmp_path)
    with pytest.raises(InputError, match=r"t10k-images-idx3-ubyte\.gz"):
        MovingMNIST(tmp_path, "val")


@real
def test_real_digits():
    made = MovingMNIST(MNIST, digits=1)
    assert made.images.shape == (60_000, 28, 28)
    assert MovingMNIST(MNIST, "val").images.shape == (10_000, 28, 28)
    rng = np.random.default_rng([0, 0, 3])
    digit = made.images[rng.integers(60_000)]
    y, x = (trajectory(rng, 10, 0.1) * 36).astype(int)[4]
    expected = np.zeros((64, 64), np.uint8)
    expected[y : y + 28, x : x + 28] = digit
    np.testing.assert_array_equal(made[3][4], expected)


@real
def test_clips_stay_what_they_are():
    """Trained priors and published figures name clips by number: they must never change."""
    clips = MovingMNIST(MNIST)
    digest = hashlib.sha256(b"".join(clips[i].tobytes() for i in range(8))).hexdigest()
    assert digest[:16] == "a6169228d1476e3d"
