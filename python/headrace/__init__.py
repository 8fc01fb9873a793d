"""Headrace: versioned tables for multimodal data.

    import headrace as hr

    catalog = hr.open("demo")                       # or hr.init("demo")
    photos = catalog.table("photos")
    for row in photos.scan(columns=["path", "image"], where="image.width > 2000", limit=2):
        print(row["path"], row["image"].decode().shape)

Everything that holds rows speaks the Arrow C stream interface: ``pyarrow.table(photos.scan())``,
``polars.from_arrow(photos.scan())``, and ``table.append`` takes any of theirs.
"""

from headrace import _native
from headrace.blob import Blob, decode_image
from headrace.catalog import Catalog, init, open
from headrace.checkpoint_files import Checkpoint
from headrace.checkpointer import Checkpointer
from headrace.commits import Commit, Compaction, HistoryEntry, Merge, Writer
from headrace.describe import ColumnFacts, Description
from headrace.diff import Diff
from headrace.errors import (
    Cancelled,
    Conflict,
    Corrupt,
    HeadraceError,
    Invalid,
    LimitExceeded,
    NotFound,
    Unavailable,
    UnknownOutcome,
    Unsupported,
)
from headrace.model import Answer, Delta, Model, Ranked, Tokenize
from headrace.objects import Json
from headrace.queues import Label, Queue, Rubric
from headrace.rows import Batch, Reader, Row
from headrace.run_media import Audio, Histogram, Image
from headrace.runs import Run, current_run, run
from headrace.snapshot import Snapshot
from headrace.sources import Mixture, Pack
from headrace.split import Split
from headrace.storage import Amount, Storage
from headrace.stream import Epoch, Stream
from headrace.table import Table
from headrace.transforms import (
    CenterCrop,
    ColorJitter,
    HorizontalFlip,
    Layout,
    Normalize,
    RandomCrop,
    RandomResizedCrop,
    Resize,
    To,
)
from headrace.tune_config import TuneConfig
from headrace.tuning import Tuned, tune
from headrace.upkeep import Collection, Damage, Holder, Verification

__version__ = _native.version()

__all__ = [
    "Amount",
    "Answer",
    "Audio",
    "Batch",
    "Blob",
    "Cancelled",
    "Catalog",
    "CenterCrop",
    "Checkpoint",
    "Checkpointer",
    "Collection",
    "ColorJitter",
    "ColumnFacts",
    "Commit",
    "Compaction",
    "Conflict",
    "Corrupt",
    "Damage",
    "Delta",
    "Description",
    "Diff",
    "Epoch",
    "HeadraceError",
    "Histogram",
    "HistoryEntry",
    "Holder",
    "HorizontalFlip",
    "Image",
    "Invalid",
    "Json",
    "Label",
    "Layout",
    "LimitExceeded",
    "Merge",
    "Mixture",
    "Model",
    "Normalize",
    "NotFound",
    "Pack",
    "Queue",
    "RandomCrop",
    "RandomResizedCrop",
    "Ranked",
    "Reader",
    "Resize",
    "Row",
    "Rubric",
    "Run",
    "Snapshot",
    "Split",
    "Storage",
    "Stream",
    "Table",
    "To",
    "Tokenize",
    "TuneConfig",
    "Tuned",
    "Unavailable",
    "UnknownOutcome",
    "Unsupported",
    "Verification",
    "Writer",
    "current_run",
    "decode_image",
    "init",
    "open",
    "run",
    "tune",
]
