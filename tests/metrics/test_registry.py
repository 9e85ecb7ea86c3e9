import subprocess
import sys

import pytest

from framelift.config import from_mapping
from framelift.errors import UsageError
from framelift.metrics.registry import METRICS, build_metrics, metric_names
from framelift.metrics.settings import MetricSettings


def test_names():
    basic = ["psnr", "ssim", "lpips", "dists", "niqe", "tlpips", "tof", "we", "grid", "grain"]
    assert metric_names()[: len(basic)] == basic
    assert {"musiq", "clipiqa", "maniqa", "liqe"} < set(metric_names())


def test_the_table_agrees_with_the_metrics():
    for metric in build_metrics(["psnr", "ssim", "niqe", "tof", "we", "grid", "grain", "still"]):
        assert METRICS[metric.name].better == metric.better


def test_metrics_come_in_order_and_once():
    assert [m.name for m in build_metrics(["we", "psnr", "we"])] == ["we", "psnr"]


def test_metrics_of_motion_share_the_flow():
    tof, we = build_metrics(["tof", "we"])
    assert tof.flows is we.flows


@pytest.mark.parametrize(("name", "hint"), [("pnsr", "'psnr'"), ("vmaf", "Known are psnr")])
def test_unknown_names(name, hint):
    with pytest.raises(UsageError, match=hint):
        build_metrics([name])


@pytest.mark.parametrize("name", ["musiq", "clipiqa", "clipiqa+", "maniqa", "liqe"])
def test_learned_scores_say_why_they_are_not_there(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyiqa", None)  # as if it were not installed
    with pytest.raises(UsageError, match="PolyForm-Noncommercial") as raised:
        build_metrics([name])
    assert "framelift[iqa]" in raised.value.remedy


@pytest.mark.parametrize("wrong", [{"border": -1}, {"flow_iterations": 0}])
def test_settings_refuse_nonsense(wrong):
    with pytest.raises(UsageError):
        MetricSettings(**wrong)


def test_settings_are_read_from_a_table():
    settings = from_mapping(MetricSettings, {"color": "y", "border": 4}, "metrics")
    assert (settings.color, settings.border) == ("y", 4)
    with pytest.raises(UsageError, match="we_flow"):
        from_mapping(MetricSettings, {"we_flow": "sr"}, "metrics")


def test_the_registry_loads_no_torch():
    code = "import framelift.metrics.registry, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
