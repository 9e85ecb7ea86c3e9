"""Warping error and tOF of clips whose motion is known, and change where there is none."""

from itertools import pairwise
from types import MappingProxyType

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from framelift.flow import build_flow
from framelift.metrics.measure import measure_clip
from framelift.metrics.motion import TOF, Flows, WarpingError
from framelift.metrics.settings import MetricSettings
from framelift.ops.warp import visible, warp


class KnownFlow:
    """The exact flow of clips whose content moves by (dx, dy) a frame.

    A frame's time is read from its first pixel's level.
    """

    name = "known"

    def __init__(self, dx: float, dy: float) -> None:
        self.step = torch.tensor([dx, dy], dtype=torch.float32).view(1, 2, 1, 1)
        self.protocol: dict[str, str | int] = {"flow": "known"}
        self.calls: list[tuple[int, int]] = []

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        times = tuple(round(float(x[0, 0, 0, 0]) * 255) for x in (a, b))
        self.calls.append(times)
        return ((times[1] - times[0]) * self.step).expand(1, 2, *a.shape[-2:])


def moving(count, dx, dy, height=12, width=16, gain=1.0, seed=0):
    """Noise that moves by (dx, dy), with each frame's number in its first pixel."""
    noise = torch.from_numpy(np.random.default_rng(seed).integers(60, 200, (3, 60, 60)))
    clip = []
    for t in range(count):
        y, x = 24 - t * dy, 24 - t * dx
        frame = (noise[:, y : y + height, x : x + width] * gain).round() / 255
        frame = frame.float().clone()
        frame[:, 0, 0] = t / 255
        clip.append(frame)
    return clip


def error(clip, flow, gt=None, lr=None, **settings):
    settings = MetricSettings(**settings)
    metric = WarpingError(settings, Flows(settings, flow))
    return measure_clip([metric], {"x": clip}, gt if gt is not None else clip, lr)


def by_hand(clip, dx, dy, divisor=3):
    """Squared differences of frame 0 and of frame 1 fetched at p + (dx, dy), clamped; ×10³."""
    first, second = (frame.double() for frame in clip[:2])
    height, width = first.shape[-2:]
    rows = (torch.arange(height) + dy).clamp(0, height - 1)
    columns = (torch.arange(width) + dx).clamp(0, width - 1)
    squared = (first - second[:, rows][:, :, columns]).square().sum()
    return float(squared) / (divisor * height * width) * 1000


@pytest.mark.parametrize(("dx", "dy"), [(2, 0), (-1, 3)])
def test_a_shifted_clip_by_arithmetic(dx, dy):
    """Only the pixels that leave the frame, and the two that hold the time, differ."""
    clip = moving(2, dx, dy)
    found = error(clip, KnownFlow(dx, dy)).values["x"]["we"]
    assert found[0] is None
    assert found[1] == pytest.approx(by_hand(clip, dx, dy), rel=1e-5)
    assert error(clip, KnownFlow(dx, dy), we_divisor="pixels").values["x"]["we"][1] == (
        pytest.approx(by_hand(clip, dx, dy, divisor=1), rel=1e-5)
    )


def test_a_still_clip_that_flickers_by_arithmetic():
    """Ten levels of flicker are (10/255)² whatever the flow is, were it not for the border."""
    clip = [torch.full((3, 8, 8), v / 255) for v in (100, 110)]
    wanted = (10 / 255) ** 2 * 1000
    found = error(clip, build_flow("dis"))
    assert found.values["x"]["we"] == [None, pytest.approx(wanted, rel=1e-5)]
    assert found.truth["we"] == found.values["x"]["we"]
    pixels = error(clip, build_flow("dis"), we_divisor="pixels").values["x"]["we"][1]
    assert pixels == pytest.approx(3 * wanted, rel=1e-5)


def test_the_previous_frame_may_be_warped_instead():
    clip = moving(2, 2, 1)
    found = error(clip, KnownFlow(2, 1), we_warps="previous").values["x"]["we"][1]
    assert found == pytest.approx(by_hand(clip[::-1], -2, -1), rel=1e-5)


def test_dis_follows_a_real_frame(clip_of, measure):
    clip = clip_of(3, 4, 1)
    still = float((clip[0] - clip[1]).square().mean()) * 1000
    found = measure(["we"], {"sr": clip}, clip)
    assert 0 < found.values["sr"]["we"][1] < 0.1 * still
    assert found.values["sr"]["we"] == found.truth["we"]


def test_a_blurred_clip_has_a_lower_error_than_the_truth(clip_of, measure):
    """Why the truth's own value is always given."""
    clip = [f + 0.05 * torch.randn(f.shape) for f in clip_of(2, 3, 0)]
    soft = [F.avg_pool2d(f, 5, 1, 2) for f in clip]
    found = measure(["we"], {"soft": soft}, clip)
    assert found.values["soft"]["we"][1] < 0.5 * found.truth["we"][1]


def test_the_mask_leaves_out_what_a_square_covers_and_uncovers():
    """A white square of 6×6 moves 4 px over grey; exact flows are known."""

    class SquareFlow:
        name, protocol = "square", MappingProxyType({})

        def __call__(self, a, b):
            flow = torch.zeros(1, 2, 16, 20)
            square = a[:, :1] > 0.9
            step = 4 if square[0, 0, 5, 6] else -4
            flow[:, :1][square] = step
            return flow

    def picture(x):
        frame = torch.full((3, 16, 20), 0.25098039)
        frame[:, 4:10, x : x + 6] = 1
        return frame

    clip = [picture(5), picture(9)]
    assert error(clip, SquareFlow()).values["x"]["we"] == [None, 0]
    # Without the mask: grey pixels of frame 0 at x = 11..14 see the white square of frame 1.
    wrong = 4 * 6 * (1 - 64 / 255) ** 2 / (16 * 20) * 1000
    found = error(clip, SquareFlow(), we_mask=False).values["x"]["we"][1]
    assert found == pytest.approx(wrong, rel=1e-4)


def test_nothing_visible_has_no_value():
    class Wild:
        name, protocol = "wild", MappingProxyType({})

        def __call__(self, a, b):
            return torch.full((1, 2, *a.shape[-2:]), 5.0)  # there and back never meet

    assert error(moving(2, 0, 0), Wild()).values["x"]["we"] == [None, None]


def test_flow_of_the_input_is_enlarged():
    """Content that moves 1 px in the input moves 4 in the output."""
    clip, small = moving(2, 4, 0), moving(2, 1, 0, 3, 4)
    found = error(clip, KnownFlow(1, 0), lr=small, we_flow="lr").values["x"]["we"][1]
    assert found == pytest.approx(by_hand(clip, 4, 0), rel=1e-5)


def test_flow_of_the_output_is_its_own():
    gt, sr = moving(2, 0, 0), moving(2, 2, 0)
    flow = KnownFlow(2, 0)
    found = error(sr, flow, gt, we_flow="output")
    assert found.values["x"]["we"][1] == pytest.approx(by_hand(sr, 2, 0), rel=1e-5)
    assert found.truth["we"][1] == pytest.approx(by_hand(gt, 2, 0), rel=1e-5)
    assert len(flow.calls) == 4


def test_stablevsrs_released_error(clip_of):
    """Its code on its terms: previous frame warped, half-pixel grid, zeros, 3·Σmask."""
    clip = clip_of(2, 3, 1)
    flow = build_flow("dis")
    previous, current = (f[None] for f in clip)
    to, back = flow(current, previous), flow(previous, current)
    warped = warp(previous, to, half_pixel=True)
    mask = visible(to, back).float()
    wanted = float(((mask * current - mask * warped) ** 2).sum() / (3 * mask.sum())) * 1000
    found = error(clip, flow, we_warps="previous", we_half_pixel=True).values["x"]["we"][1]
    assert found == pytest.approx(wanted, rel=1e-5)


def test_tof_is_the_difference_of_flows(clip_of, measure):
    gt, sr = clip_of(2, 2, 1), clip_of(2, 5, 1)
    found = measure(["tof"], {"x": sr, "same": gt}, gt).values
    flows = [build_flow("dis")(c[1][None], c[0][None]) for c in (sr, gt)]
    wanted = float((flows[0] - flows[1]).abs().mean()) * 10
    assert found["x"]["tof"] == [None, pytest.approx(wanted, rel=1e-5)]
    assert wanted == pytest.approx(15, rel=0.2)  # 3 px in x, none in y, mean of both, × 10
    assert found["same"]["tof"] == [None, 0]


def test_no_flow_is_estimated_twice():
    """Two methods, tOF and warping error: each pair of the truth there and back once."""
    settings = MetricSettings()
    flow = KnownFlow(1, 0)
    flows = Flows(settings, flow)
    gt = moving(4, 1, 0)
    results = {"a": moving(4, 1, 0, gain=0.9), "b": moving(4, 1, 0, gain=0.8)}
    measure_clip([TOF(settings, flows), WarpingError(settings, flows)], results, gt)
    pairs = [(t, t + 1) for t in range(3)]
    assert sorted(c for c in flow.calls if c in pairs) == pairs  # the truth's only
    assert len(flow.calls) == 3 + 3 * 3  # and back: the truth's and both results'


def test_the_protocol_says_all_that_decides():
    settings = MetricSettings(we_flow="lr", we_mask=False, we_divisor="pixels")
    protocol = WarpingError(settings, Flows(settings, build_flow("dis-fast"))).protocol
    assert protocol["flow_of"] == "lr"
    assert protocol["mask"] is False
    assert protocol["divisor"] == "pixels"
    assert protocol["flow_preset"] == "fast"


def test_results_of_several_sizes_share_the_flow_of_the_input():
    settings = MetricSettings(we_flow="lr", we_mask=False)
    metric = WarpingError(settings, Flows(settings, KnownFlow(1, 0)))
    clips = {"4": moving(2, 4, 0), "2": moving(2, 2, 0, 6, 8)}
    found = measure_clip([metric], clips, lr=moving(2, 1, 0, 3, 4)).values
    assert found["4"]["we"][1] == pytest.approx(by_hand(clips["4"], 4, 0), rel=1e-5)
    assert found["2"]["we"][1] == pytest.approx(by_hand(clips["2"], 2, 0), rel=1e-5)


def test_still_change_is_rms_in_levels_where_the_input_stands_still(measure):
    still = [torch.full((3, 16, 16), 0.5)] * 4
    noise = [torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(t)) for t in range(4)]
    found = measure(["still"], {"same": [noise[0]] * 4, "noisy": noise}, lr=still)
    assert found.values["same"]["still"] == [None, 0, 0, 0]
    eight = [(frame * 255).round() for frame in noise]
    expected = [float((a - b).square().mean().sqrt()) for a, b in pairwise(eight)]
    assert found.values["noisy"]["still"][1:] == pytest.approx(expected, rel=1e-6)
    moving = [*still[:2], torch.full((3, 16, 16), 0.6), *still[:1]]
    changes = measure(["still"], {"noisy": noise}, lr=moving).values["noisy"]["still"]
    assert [v is None for v in changes] == [True, False, True, True]
    assert measure(["still"], {"noisy": noise}).values["noisy"]["still"] == [None] * 4
