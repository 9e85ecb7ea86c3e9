import gc
import json
import weakref

import pytest
import torch

from framelift.errors import InputError
from framelift.metrics.base import Frame, Sample
from framelift.metrics.measure import measure_clip
from framelift.metrics.registry import build_metrics

NAMES = ["psnr", "ssim", "niqe", "tof", "we"]


class Probe:
    """A real metric that watches: the mean of the frame, and how many frames are alive."""

    name, better, needs, has_truth_value = "probe", "higher", frozenset(), True

    def __init__(self):
        self.protocol = {}
        self.frames = weakref.WeakSet()
        self.most = 0

    def __call__(self, sample: Sample) -> float:
        self.frames.add(sample.sr)
        self.most = max(self.most, len(self.frames))
        before = sample.sr.previous
        return float(sample.sr.rgb.mean()) - (float(before.rgb.mean()) if before else 0)


def clip(count, height=16, width=20, step=0.01):
    return [torch.full((3, height, width), 0.2 + step * t) for t in range(count)]


def test_values_per_method_metric_and_frame():
    found = measure_clip([Probe()], {"a": clip(3), "b": clip(3, step=0.02)}, clip(3, step=0.03))
    assert found.values["a"]["probe"] == pytest.approx([0.2, 0.01, 0.01], abs=1e-6)
    assert found.values["b"]["probe"] == pytest.approx([0.2, 0.02, 0.02], abs=1e-6)
    assert found.truth["probe"] == pytest.approx([0.2, 0.03, 0.03], abs=1e-6)


def test_two_frames_of_each_source_are_alive():
    probe = Probe()

    def stream():
        yield from (torch.full((3, 8, 8), t / 40) for t in range(40))

    gc.disable()  # frames must go when the last name of them goes
    measure_clip([probe], {"a": stream(), "b": stream()}, stream())
    gc.enable()
    assert probe.most <= 2 * 3


def test_sources_are_read_at_the_same_pace():
    read = []

    def stream(name):
        for t in range(4):
            read.append((t, name))
            yield torch.zeros(3, 8, 8)

    measure_clip([Probe()], {"a": stream("a"), "b": stream("b")}, stream("gt"), stream("lr"))
    assert [t for t, _ in read] == sorted(t for t, _ in read)


def test_without_a_truth_only_what_needs_none_is_measured():
    metrics = build_metrics(NAMES)
    found = measure_clip(metrics, {"a": clip(2, 200, 200)})
    assert found.truth == {}
    assert found.values["a"]["psnr"] == [None, None]
    assert found.values["a"]["we"] == [None, None]


def test_only_some_frames_may_be_measured():
    """Of a septuplet, its centre; its predecessor is still known."""
    found = measure_clip([Probe()], {"a": clip(7)}, clip(7), measured={3})
    assert found.values["a"]["probe"] == [*[None] * 3, pytest.approx(0.01, abs=1e-6), *[None] * 3]
    assert [v is None for v in found.truth["probe"]] == [True] * 3 + [False] + [True] * 3


def test_a_measured_frame_does_not_depend_on_the_others(clip_of):
    gt = clip_of(3, 2, 1)
    sr = [torch.nn.functional.avg_pool2d(f, 3, 1, 1) for f in gt]
    whole = measure_clip(build_metrics(NAMES), {"a": sr}, gt)
    one = measure_clip(build_metrics(NAMES), {"a": sr}, gt, measured=[2])
    for name in NAMES:
        assert one.values["a"][name][2] == whole.values["a"][name][2]


@pytest.mark.parametrize("short", ["a", "gt", "lr"])
def test_sources_must_be_equally_long(short):
    sources = {name: clip(2 if name == short else 3) for name in ("a", "gt", "lr")}
    with pytest.raises(InputError, match="ends after 2 frames"):
        measure_clip([Probe()], {"a": sources["a"]}, sources["gt"], sources["lr"])


def test_results_must_have_the_size_of_the_truth():
    with pytest.raises(InputError, match="20×16 at frame 0, the ground truth 20×18"):
        measure_clip([Probe()], {"a": clip(2)}, clip(2, 18))


def test_no_results_and_no_frames():
    assert measure_clip([Probe()], {}).values == {}
    assert measure_clip([Probe()], {"a": []}).values == {"a": {"probe": []}}


def test_protocols_go_into_a_record():
    found = measure_clip(build_metrics(NAMES), {"a": []}, [])
    assert set(found.protocols) == set(NAMES)
    assert json.loads(json.dumps(found.protocols)) == found.protocols


def test_what_is_derived_is_derived_once_and_let_go():
    frame = Frame(torch.zeros(3, 2, 2), Frame(torch.zeros(3, 2, 2)))
    made = []
    for _ in range(2):
        frame.derive("a", lambda: made.append("a"))
        frame.derive("b", lambda: made.append("b"), keep=True)
    assert made == ["a", "b"]
    frame.trim()
    frame.derive("a", lambda: made.append("a"))
    frame.derive("b", lambda: made.append("b"))
    assert made == ["a", "b", "a"]
