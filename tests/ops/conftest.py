"""Property tests search a fixed number of tiny examples, however slow the machine."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

settings.register_profile("framelift", deadline=None, max_examples=60)
settings.load_profile("framelift")


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """On inputs this small, a second thread only waits for the first."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
