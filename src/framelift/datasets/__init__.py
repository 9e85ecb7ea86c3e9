"""Datasets by name, read from the folders in which they are published."""

from framelift.datasets.base import Clip, Dataset, Maker, Source, open_source
from framelift.datasets.catalog import dataset_names, find_maker, open_dataset
from framelift.datasets.moving_mnist import MovingMNIST

__all__ = [
    "Clip",
    "Dataset",
    "Maker",
    "MovingMNIST",
    "Source",
    "dataset_names",
    "find_maker",
    "open_dataset",
    "open_source",
]
