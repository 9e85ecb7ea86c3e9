"""TFRecord files without TensorFlow.

A record is a length (uint64), its checksum, the data and their checksum, all little-endian; the
checksums are masked CRC-32C (tensorflow/core/lib/io/record_writer.h). The data of a
`tf.train.Example` are a protobuf map from names to lists of bytes, floats or integers, of which
only bytes are read here.
"""

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

from framelift.errors import InputError, UsageError

HEAD, FOOT = struct.Struct("<QI"), struct.Struct("<I")


def masked_crc(data: bytes) -> int:
    """The CRC-32C of `data`, rotated and offset as TFRecord stores it."""
    try:
        from google_crc32c import value
    except ImportError as error:
        raise UsageError(
            "Reading tfrecords needs the package google-crc32c.",
            "Install it: pip install 'framelift[data]'",
        ) from error
    crc = value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def scan(path: Path) -> list[int]:
    """Where the records of a file begin, found by hopping from length to length."""
    offsets = []
    with path.open("rb") as file:
        end = file.seek(0, 2)
        place = 0
        while place < end:
            offsets.append(place)
            file.seek(place)
            place += HEAD.size + _length(file.read(HEAD.size), path, place) + FOOT.size
        if place > end:
            raise _damaged(path, offsets[-1], "is cut off")
    return offsets


def read_record(path: Path, offset: int) -> bytes:
    """The data of the record at `offset`, verified."""
    with path.open("rb") as file:
        file.seek(offset)
        length = _length(file.read(HEAD.size), path, offset)
        data, foot = file.read(length), file.read(FOOT.size)
    if len(foot) < FOOT.size or masked_crc(data) != FOOT.unpack(foot)[0]:
        raise _damaged(path, offset, "is damaged")
    return data


def bytes_features(example: bytes) -> dict[str, bytes]:
    """The features of a `tf.train.Example` that hold bytes, by name (the first value of each)."""
    try:
        return dict(_bytes_features(memoryview(example)))
    except (IndexError, KeyError, UnicodeDecodeError) as error:
        raise InputError(
            "A record holds no protobuf of a tf.train.Example.", "Use the original tfrecords."
        ) from error


def _bytes_features(example: memoryview) -> Iterator[tuple[str, bytes]]:
    for entry in _submessages(_submessages([example], 1), 1):
        name = next(_submessages([entry], 1), b"")
        values = _submessages(_submessages(_submessages([entry], 2), 1), 1)
        first = next(values, None)
        if first is not None:
            yield bytes(name).decode(), bytes(first)


def _length(head: bytes, path: Path, offset: int) -> int:
    if len(head) == HEAD.size:
        length, crc = HEAD.unpack(head)
        if masked_crc(head[:8]) == crc:
            return length
    raise _damaged(path, offset, "is not a TFRecord")


def _damaged(path: Path, offset: int, how: str) -> InputError:
    return InputError(f"The record at byte {offset} of {path} {how}.", "Download it again.")


def _submessages(messages: Iterable[memoryview], field: int) -> Iterator[memoryview]:
    """The length-delimited values of `field` in protobuf messages, in order."""
    for data in messages:
        place = 0
        while place < len(data):
            key, place = _varint(data, place)
            wire = key & 7
            if wire == 0:
                _, place = _varint(data, place)
                continue
            length, place = _varint(data, place) if wire == 2 else ({1: 8, 5: 4}[wire], place)
            if key >> 3 == field and wire == 2:
                yield data[place : place + length]
            place += length


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place
