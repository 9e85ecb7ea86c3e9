"""The papers' items: a real command on data in Vid4's layout, and what the registry promises."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from evaluation.clips import write_clip

from framelift.cli.main import main
from framelift.datasets import dataset_names
from framelift.errors import Exit, InputError, UsageError
from framelift.evaluation.evaluate import evaluate
from framelift.evaluation.protocols import PROTOCOLS, find_protocol
from framelift.evaluation.settings import EvaluateSettings, ReproduceSettings
from framelift.files import read_json
from framelift.metrics.registry import METRICS
from framelift.papers.items import Data, Item, Row, Size, list_items, load_item
from framelift.papers.reproduce import Request, reproduce
from framelift.papers.reproduction import Reproduction

CLIPS = ("calendar", "city", "foliage", "walk")


@pytest.fixture
def vid4(tmp_path: Path) -> Path:
    for number, name in enumerate(CLIPS):
        write_clip(tmp_path / "Vid4/GT" / name, frames=2, shift=5 * number)
    return tmp_path / "Vid4"


@pytest.fixture
def command(capsys):
    def command(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main(words)
        return stop.value.code, *capsys.readouterr()

    return command


def test_the_bicubic_row_of_sateco(tmp_path, vid4, command):
    words = ("reproduce", "sateco/table1", "--data", f"vid4={vid4}", "--full")
    words += ("--metrics", "psnr", "ssim", "--device", "cpu", "-o", str(tmp_path / "out"))
    code, out, err = command(*words)
    assert code == Exit.OK, err
    bicubic = next(line for line in out.splitlines() if "23.78" in line)
    settings = EvaluateSettings(
        dataset="vid4", root=vid4, methods=("bicubic",), metrics=("psnr",), protocol="basicsr-y"
    )
    ours = evaluate(settings, tmp_path / "again").mean("bicubic", "psnr")
    assert f"{ours:.2f}" in bicubic
    record = read_json(tmp_path / "out/results.json")
    assert record["ours"]["vid4"]["Bicubic"]["psnr"] == ours
    assert record["ours"]["reds4"] == {}
    assert record["item"]["rows"][0]["published"]["vid4"]["ssim"] == 0.6347
    assert "| Bicubic | 23.78 |" in (tmp_path / "out/results.md").read_text()


def test_any_clips_can_stand_in(tmp_path, data, command):
    words = ("reproduce", "sateco/table-1", "--data", f"folder={data}", "--metrics", "psnr")
    code, out, err = command(*words, "--device", "cpu", "-o", str(tmp_path / "out"), "--json")
    assert code == Exit.OK, err
    made = json.loads(out)
    assert 15 < made["ours"]["folder"]["Bicubic"]["psnr"] < 40
    assert any("stand in" in note for note in made["notes"])
    assert any("--full" in note for note in made["notes"])


def test_without_data_it_says_what_to_get(command):
    code, out, err = command("reproduce", "stablevsr/table1")
    assert code == Exit.BAD_INPUT
    assert not out
    for word in ("REDS4", "http", "GT/{clip}", "--data vimeo90k-t=", "--data folder="):
        assert word in err
    code, _, err = command("reproduce", "sateco/table_9")
    assert (code, "Did you mean 'sateco/table1'?" in err) == (Exit.USAGE, True)
    assert command("reproduce", "sateco/table1", "--data", "vid4")[0] == Exit.USAGE
    assert command("reproduce", "sateco/table1", "--data", "vid5=x")[0] == Exit.USAGE
    assert command("reproduce")[0] == Exit.USAGE


def test_the_list(command):
    code, out, _ = command("reproduce", "--list")
    assert code == Exit.OK
    assert "stablevsr/table1" in out
    listed = json.loads(command("reproduce", "--list", "--json")[1])
    assert [item["name"] for item in listed] == [item.name for item in list_items()]
    assert "sateco/table1" in out


@pytest.mark.parametrize("item", list_items(), ids=lambda item: item.name)
def test_every_item_is_sound(item):
    assert load_item(item.name) == item
    find_protocol(item.protocol)
    names = [data.name for data in item.data]
    assert set(names) <= set(dataset_names())
    assert set(item.metrics) <= set(METRICS)
    assert len({row.title for row in item.rows}) == len(item.rows)
    for row in item.rows:
        assert set(row.published) <= set(names)
        assert all(set(values) <= set(item.metrics) for values in row.published.values())


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_every_protocol_is_sound(protocol):
    assert protocol.source
    assert protocol.on("reds4").color == ("y" if protocol.name == "basicsr-y" else "rgb")
    assert set(protocol.metrics) <= set(METRICS)
    assert protocol.on("vid4", ("border=3",)).border == 3
    assert PROTOCOLS["sateco"].on("vid4").color == "y"


def test_rows_are_ablations(tmp_path, data, tiny_pipeline):
    rows = (
        Row("one step", str(tiny_pipeline), {"steps": 1}, {"folder": {"psnr": 30.0}}),
        Row("two steps", str(tiny_pipeline)),
        Row("to come", "no-such-method", published={"folder": {"psnr": 31.25}}),
    )
    item = Item("Steps", "Test", "test/steps", metrics=("psnr",), data=(Data("folder"),), rows=rows)
    item = Item(**{**vars(item), "reduced": Size(32, 1)})
    settings = ReproduceSettings(data=(f"folder={data}",), device="cpu")
    made = reproduce(item, settings, tmp_path / "out")
    (block,) = made.blocks
    assert set(block.ours) == {"one step", "two steps"}
    assert block.ours["one step"] != block.ours["two steps"]
    heads, cells = block.cells(item)
    assert heads == ["method", "PSNR (dB), paper", "PSNR (dB), ours"]
    assert [row[1] for row in cells] == ["30.00", "–", "31.25"]
    assert cells[2] == ["to come", "31.25", "–"]
    assert any("no method 'no-such-method'" in note for note in made.notes)
    with pytest.raises(UsageError, match="no column 'ssim'"):
        reproduce(item, ReproduceSettings(metrics=("ssim",)), tmp_path)


def figure(request: Request) -> Reproduction:
    """A figure: any file, made from the data that was named."""
    path = request.output / "figure.txt"
    path.write_text(str(len(list(request.roots["folder"].iterdir()))))
    return Reproduction(request.item, files=(path,), notes=("Two clips.",))


def test_figures_bind_a_function(tmp_path, data, monkeypatch):
    monkeypatch.setitem(sys.modules, "figures", sys.modules[__name__])
    item = Item(
        "Figure", "Test", "test/figure", "function", "figures:figure", data=(Data("folder"),)
    )
    with pytest.raises(InputError, match="needs data"):
        reproduce(item, ReproduceSettings(), tmp_path / "out")
    made = reproduce(item, ReproduceSettings(data=(f"folder={data}",)), tmp_path / "out")
    assert made.files[0].read_text() == "2"
    assert read_json(tmp_path / "out/results.json")["notes"] == ["Two clips."]


def test_help_and_errors_load_no_torch():
    code = (
        "import sys, framelift.cli.main as cli\n"
        "for words in (['evaluate', '--help'], ['reproduce', '--list'], ['evaluate']):\n"
        "  try: cli.main(words)\n"
        "  except SystemExit: pass\n"
        "assert not {'torch', 'diffusers', 'av', 'cv2'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--crop-at" in done.stdout
    assert "nothing to evaluate" in done.stderr


def test_the_docs_name_every_protocol():
    text = (Path(__file__).parents[2] / "docs/evaluation.md").read_text("utf-8")
    assert [name for name in PROTOCOLS if f"| `{name}` |" not in text] == []
