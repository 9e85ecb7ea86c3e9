"""Datasets by name, read from the folders in which they are published."""

from framelift.datasets.base import Clip, Dataset, Source, open_source
from framelift.datasets.catalog import dataset_names, open_dataset
from framelift.datasets.moving_mnist import MovingMNIST

__all__ = [
    "Clip",
    "Dataset",
    "MovingMNIST",
    "Source",
    "dataset_names",
    "open_dataset",
    "open_source",
]
