"""Finished samples, one line of JSON each, so that an interrupted run continues."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from framelift.errors import InputError


class Store:
    """Records by key in a file of JSON lines. A last line that a crash cut off is dropped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._records: dict[str, dict[str, Any]] = {}
        if path.exists():
            self._read()

    def __contains__(self, key: str) -> bool:
        return key in self._records

    def __getitem__(self, key: str) -> dict[str, Any]:
        return self._records[key]

    def add(self, records: Mapping[str, dict[str, Any]]) -> None:
        """Append records; they are on the disk when this returns."""
        lines = [json.dumps({"key": key, **record}) for key, record in records.items()]
        with self._path.open("a", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in lines))
            file.flush()
            os.fsync(file.fileno())
        self._records |= records

    def _read(self) -> None:
        data = self._path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            os.truncate(self._path, len(whole))
        for number, line in enumerate(whole.splitlines(), start=1):
            self._records |= _record(line, f"{self._path}, line {number},")


def _record(line: bytes, where: str) -> dict[str, dict[str, Any]]:
    try:
        record = json.loads(line)
        return {record.pop("key"): record}
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise InputError(
            f"{where} is damaged: {error}.", "Remove the line; its sample is drawn again."
        ) from error
