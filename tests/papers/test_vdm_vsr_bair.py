"""BAIR's table and figures by the real command, on trajectories in the published layout."""

import cv2
import pytest
from datasets.test_bair import write_records

from framelift.cli.main import main
from framelift.errors import Exit
from framelift.files import read_json


@pytest.fixture(scope="module")
def bair(tmp_path_factory):
    root = tmp_path_factory.mktemp("bair")
    write_records(root / "softmotion30_44k" / "test" / "traj_0_to_1.tfrecords", range(2))
    return root


@pytest.fixture
def command(bair, tmp_path, capsys):
    def command(item, *words):
        words = ("reproduce", f"vdm-vsr/{item}", "--data", f"bair={bair}", *words)
        with pytest.raises(SystemExit) as stop:
            main([*words, "--device", "cpu", "-o", str(tmp_path / "made")])
        return stop.value.code, *capsys.readouterr()

    return command


def test_table_1(command, tmp_path, tiny_vdm_vsr):
    options = ("--options", "references=3", "steps=2", "--preset", str(tiny_vdm_vsr))
    code, out, err = command("table1", *options)
    assert code == Exit.OK, err
    rows = {line.split("  ")[0]: line.split() for line in out.splitlines()}
    assert rows["IART"][1:] == ["24.80", "–", "0.886", "–"]
    assert rows["FMA-Net"][1:] == ["25.35", "–", "0.897", "–"]
    assert rows["VDM-VSR"][1] == "27.44"
    content = read_json(tmp_path / "made/results.json")
    ours = content["ours"]["bair"]
    assert set(ours) == {"VDM-VSR", "Bicubic (not in the paper)"}
    assert float(rows["VDM-VSR"][2]) == pytest.approx(ours["VDM-VSR"]["psnr"], abs=0.005)
    assert 0 < ours["VDM-VSR"]["psnr"] < 20
    assert content["clips"] == ["00000@0", "00000@4", "00000@8"]  # pieces of the prior's length
    assert content["intervals"]["VDM-VSR"]["ssim"]["low"] is not None
    assert command("table1", *options)[0] == Exit.OK
    assert read_json(tmp_path / "made/results.json")["computed"] == 0


def test_without_a_prior_the_table_has_no_row_of_ours(command, tmp_path):
    code, out, err = command("table1", "--options", "references=2", "--metrics", "psnr")
    assert code == Exit.OK, err
    assert "needs a prior of BAIR" in out
    assert "--preset FOLDER" in out
    content = read_json(tmp_path / "made/results.json")
    assert set(content["ours"]["bair"]) == {"Bicubic (not in the paper)"}
    assert set(content["ours"]["bair"]["Bicubic (not in the paper)"]) == {"psnr"}
    assert content["clips"] == ["00000@0", "00000@10"]
    for figure in ("fig6", "fig7"):
        code, _, err = command(figure)
        assert code == Exit.USAGE
        assert "--preset FOLDER" in err


@pytest.mark.parametrize(
    ("item", "words", "size"),
    [
        ("fig6", ("references=2", "shown=3"), (2 * (24 + 64) + 4, 3 * 64 + 2 * 4)),
        # Of figure 7's frames, the tiny prior has 1 and 3.
        ("fig7", ("references=2",), (6 * (24 + 64 + 4) + 5 * 4, 2 * 64 + 4)),
    ],
)
def test_figures(command, tmp_path, tiny_vdm_vsr, item, words, size):
    preset = ("--preset", str(tiny_vdm_vsr), "--options", "steps=2", *words)
    code, out, err = command(item, *preset)
    assert code == Exit.OK, err
    assert str(tmp_path / f"made/{item}.png") in out
    assert cv2.imread(str(tmp_path / f"made/{item}.png")).shape[:2] == size
    code, _, err = command(item, *preset, "shown=5")
    assert code == Exit.USAGE
    assert "Clips of 4 frames have none of shown=(5,)" in err


def test_too_few_clips(command):
    code, _, err = command("table1", "--full")
    assert code == Exit.BAD_INPUT
    assert "6 clips of 10 frames, 768 are needed" in err
    assert "--options references=6" in err
