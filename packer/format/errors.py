"""The error tree: every failure that clipshards names derives from DatasetError.

    DatasetError
        AnnotationError             a line or a file of the user's annotation
        PlanError                   another plan stands where this one would go
        MediaError                  a media file, while packing
        RejectsError                too many records could not be packed
        FormatError                 a shard, index, manifest or part breaks the format
            UnsupportedVersionError     written in a version that this reader does not know
            CorruptShardError           the bytes are not the ones that were packed
        DecodeError                 a part is as packed and yet cannot be decoded
        StateError                  a position to go on from belongs elsewhere
        WorkerError                 processes died or hung over one piece of work
        StorageError                a location cannot be read or written
            NotFoundError               no data set, split or sample of that name

Wrong arguments are `ValueError` and `TypeError`, as everywhere in Python.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clipshards.packer.format.rejects import RejectRow


class DatasetError(Exception):
    """Base of all errors that concern the data and not the program."""


class AnnotationError(DatasetError):
    """An annotation, or one line of it, is not what its format says."""


class PlanError(DatasetError):
    """The location holds a plan or a split that another request made."""


class MediaError(DatasetError):
    """A media file is missing, outside its root, or not decodable."""


class RejectsError(DatasetError):
    """More records were rejected than the caller allows, or all of them."""

    def __init__(self, message: str, rejects: Sequence["RejectRow"] = ()) -> None:
        super().__init__(message)
        self.rejects = tuple(rejects)
        """What could not be packed and why, in the order of the annotation."""


class FormatError(DatasetError):
    """Bytes that should follow docs/format.md do not."""


class UnsupportedVersionError(FormatError):
    """The format version is not the one that this release reads."""


class CorruptShardError(FormatError):
    """A shard's bytes differ from what its index or manifest promises."""


class DecodeError(DatasetError):
    """Media bytes arrived intact and yet do not give the frames asked for."""


class StateError(DatasetError):
    """A position to go on from belongs to other data, another order or another release."""


class WorkerError(DatasetError):
    """Worker processes or threads died or hung over one piece of work, or cannot deliver it."""


class StorageError(DatasetError):
    """Reading or writing a location failed."""


class NotFoundError(StorageError):
    """There is no data set, split or sample of the name that was given."""
