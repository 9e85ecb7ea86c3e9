"""BAIR tfrecords, written by TensorBoard's record writer and Google's protobuf."""

import numpy as np
import pytest

from framelift.cli.main import main
from framelift.datasets import open_dataset
from framelift.datasets.check import check_dataset
from framelift.datasets.tfrecord import bytes_features, masked_crc, read_record, scan
from framelift.errors import Exit, InputError, UsageError

records = pytest.importorskip("tensorboard.summary.writer.record_writer")
descriptor_pb2 = pytest.importorskip("google.protobuf.descriptor_pb2")


def example_class():
    """tf.train.Example, declared as in tensorflow/core/example/{example,feature}.proto."""
    from google.protobuf import descriptor_pool, message_factory

    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="t", syntax="proto3")
    lists = (
        ("bytes_list", "BytesList", field.TYPE_BYTES),
        ("float_list", "FloatList", field.TYPE_FLOAT),
        ("int64_list", "Int64List", field.TYPE_INT64),
    )
    feature = descriptor_pb2.DescriptorProto(name="Feature")
    for number, (name, kind, scalar) in enumerate(lists, start=1):
        message = file.message_type.add(name=kind)
        message.field.add(name="value", number=1, label=field.LABEL_REPEATED, type=scalar)
        feature.field.add(
            name=name, number=number, label=1, type=field.TYPE_MESSAGE, type_name=f".t.{kind}"
        )
    file.message_type.append(feature)
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=1, type=field.TYPE_STRING)
    entry.field.add(
        name="value", number=2, label=1, type=field.TYPE_MESSAGE, type_name=".t.Feature"
    )
    features.field.add(
        name="feature",
        number=1,
        label=field.LABEL_REPEATED,
        type=field.TYPE_MESSAGE,
        type_name=".t.Features.FeatureEntry",
    )
    example = file.message_type.add(name="Example")
    example.field.add(
        name="features", number=1, label=1, type=field.TYPE_MESSAGE, type_name=".t.Features"
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Example"))


EXAMPLE = example_class()


def write_records(path, trajectories, side=64, frames=30):
    """A file of the dataset: both cameras, actions and positions of every trajectory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        writer = records.RecordWriter(file)
        for number in trajectories:
            feature = (example := EXAMPLE()).features.feature
            for i in range(frames):
                for camera in ("aux1", "main"):
                    raw = picture(number, i, camera, side).tobytes()
                    feature[f"{i}/image_{camera}/encoded"].bytes_list.value.append(raw)
                feature[f"{i}/action"].float_list.value.extend([0.5, -1, 2, number])
                feature[f"{i}/endeffector_pos"].float_list.value.extend([1, 2, 3])
                feature[f"{i}/step"].int64_list.value.append(-i)
            writer.write(example.SerializeToString())


def picture(number, index, camera, side=64):
    rng = np.random.default_rng([number, index, camera == "main"])
    return rng.integers(0, 256, (side, side, 3), np.uint8)


@pytest.fixture(scope="module")
def bair(tmp_path_factory):
    root = tmp_path_factory.mktemp("bair")
    folder = root / "softmotion30_44k"
    write_records(folder / "test" / "traj_0_to_1.tfrecords", range(2))
    write_records(folder / "train" / "traj_256_to_257.tfrecords", range(256, 258))
    write_records(folder / "train" / "traj_0_to_0.tfrecords", range(1))
    return root


def test_checksum():
    """The CRC-32C of "123456789" is e3069283; TFRecord rotates it by 15 bits and adds a mask."""
    crc = 0xE3069283
    rotated = crc >> 15 | crc << 17 & 0xFFFFFFFF
    assert masked_crc(b"123456789") == (rotated + 0xA282EAD8) % 2**32


@pytest.mark.parametrize(("name", "camera"), [("bair", "aux1"), ("bair-main", "main")])
def test_trajectories_of_either_camera(bair, name, camera):
    dataset = open_dataset(name, bair, "train")
    assert [clip.name for clip in dataset.clips] == ["00000", "00256", "00257"]
    clip = dataset.clips[2]
    assert (len(clip.gt), clip.gt.size, clip.lr) == (30, (64, 64), None)
    for index, frame in enumerate(clip.gt.frames()):
        np.testing.assert_array_equal(frame, picture(257, index, camera))
    assert len(list(clip.gt.frames(25))) == 5
    assert len(open_dataset(name, bair / "softmotion30_44k").clips) == 2
    with pytest.raises(UsageError, match="no low-resolution frames"):
        open_dataset(name, bair, lr="bi")


def test_ten_frame_pieces_make_the_number_of_clips_that_vdm_vsr_trains_on(bair):
    from framelift.datasets.bair import COUNTS

    pieces = open_dataset("bair", bair, "train").pieces(10).clips
    assert [clip.name for clip in pieces[:4]] == ["00000@0", "00000@10", "00000@20", "00256@0"]
    np.testing.assert_array_equal(next(pieces[4].gt.frames()), picture(256, 10, "aux1"))
    assert len(pieces) == 3 * 3
    assert 3 * COUNTS["train"] == 129_792


def test_only_bytes_features_are_read(bair):
    file = bair / "softmotion30_44k" / "test" / "traj_0_to_1.tfrecords"
    features = bytes_features(read_record(file, scan(file)[1]))
    assert len(features) == 60
    assert features["3/image_main/encoded"] == picture(1, 3, "main").tobytes()


def test_check_counts_trajectories(bair, tmp_path, capsys):
    def check(*words):
        with pytest.raises(SystemExit) as stop:
            main(["data", "check", "bair", *words])
        return stop.value.code, capsys.readouterr().out

    code, out = check(str(bair), "--split", "train")
    assert code == Exit.BAD_INPUT
    assert "There are 3 trajectories; published are 43264." in out
    assert "softmotion30_44k/train/*.tfrecords, camera aux1" in out
    assert "90, 30 a clip" in out
    write_records(tmp_path / "test" / "traj_0_to_255.tfrecords", range(2))
    assert (
        "traj_0_to_255.tfrecords holds 2 trajectories, unlike its name." in check(str(tmp_path))[1]
    )


@pytest.mark.parametrize("place", [-5, -100])
def test_a_damaged_record_is_not_read(bair, tmp_path, place):
    file = tmp_path / "test" / "traj_0_to_1.tfrecords"
    file.parent.mkdir()
    data = bytearray((bair / "softmotion30_44k" / "test" / file.name).read_bytes())
    data[place] ^= 1
    file.write_bytes(data)
    clips = open_dataset("bair", tmp_path).clips
    assert len(list(clips[0].gt.frames())) == 30
    with pytest.raises(InputError, match="is damaged"):
        list(clips[1].gt.frames())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d[:-3], "is cut off"),
        (lambda d: d[:5], "byte 0 of .* is not a TFRecord"),
        (lambda d: b"\x01" + d[1:], "byte 0 of .* is not a TFRecord"),
    ],
)
def test_a_broken_file_is_refused(bair, tmp_path, change, message):
    file = tmp_path / "test" / "traj_0_to_1.tfrecords"
    file.parent.mkdir()
    file.write_bytes(change((bair / "softmotion30_44k" / "test" / file.name).read_bytes()))
    with pytest.raises(InputError, match=message):
        open_dataset("bair", tmp_path)


def test_records_of_something_else(tmp_path):
    write_records(tmp_path / "test" / "traj_0_to_0.tfrecords", [0], side=32)
    with pytest.raises(InputError, match="not a BAIR trajectory"):
        list(open_dataset("bair", tmp_path).clips[0].gt.frames())
    with pytest.raises(InputError, match=r"softmotion30_44k/train"):
        open_dataset("bair", tmp_path, "train")
    path = tmp_path / "x.tfrecords"
    with path.open("wb") as file:
        records.RecordWriter(file).write(b"\xff\xff not a message")
    with pytest.raises(InputError, match="no protobuf"):
        bytes_features(read_record(path, 0))


def test_a_file_without_records(tmp_path):
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "traj_0_to_0.tfrecords").write_bytes(b"")
    with pytest.raises(InputError, match="no clip of BAIR"):
        open_dataset("bair", tmp_path)
    report = check_dataset("bair", tmp_path)
    assert (report.clips, report.frames_per_clip) == (0, (0, 0))
    assert report.wrong
