"""One loader, one run, in a process of its own: prints a line of JSON.

    python stream_worker.py LOADER WORK FOLDER SEED       LOADER: headrace, ceiling, mds, litdata, webdataset, lance, huggingface
                                                          WORK: pil, fast (decoders), raw, first

Every byte of every batch goes through a checksum. The clock starts at the first batch (except for `first`), so starting workers
does not count; torch is imported before.
"""

from __future__ import annotations

import io
import json
import os
import pathlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

LOADER, WORK, FOLDER, SEED = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3]), int(sys.argv[4])
WORKERS = 2
BATCH = 64


TOTAL = np.uint64(0)


def checksum(data: Any) -> int:
    """A sum of 64-bit words: every byte is read, and it costs the loaders next to nothing."""
    global TOTAL
    words = len(data) // 8 * 8
    TOTAL = TOTAL + data[:words].view(np.uint64).sum() + data[words:].sum()
    return len(data)


def consume(value: Any) -> int:
    """Bytes seen, all of them read."""
    if isinstance(value, bytes | bytearray | memoryview):
        return checksum(np.frombuffer(value, np.uint8))
    if isinstance(value, list | tuple):
        return sum(consume(part) for part in value)
    if isinstance(value, str | int | float):
        return 0
    if type(value).__module__.startswith("torch"):
        value = value.numpy()
    return checksum(value.reshape(-1).view(np.uint8))


def decode() -> Callable[[bytes], Any]:
    """What the loaders' guides show (Pillow and torchvision), or the fastest that can be had."""
    if WORK == "raw":
        return lambda data: data
    from torchvision.transforms import v2

    crop = v2.RandomResizedCrop(224, antialias=True)
    if WORK == "pil":
        from PIL import Image

        to_tensor = v2.PILToTensor()
        return lambda data: to_tensor(crop(Image.open(io.BytesIO(data)).convert("RGB")))
    import simplejpeg
    import torch

    return lambda data: crop(torch.from_numpy(simplejpeg.decode_jpeg(data)).permute(2, 0, 1)).contiguous()


def collate(samples: list[Any]) -> Any:
    if WORK == "raw":
        return samples
    import torch

    return torch.stack(samples)


def torch_loader(dataset: Any, **options: Any) -> Any:
    from torch.utils.data import DataLoader

    return DataLoader(dataset, batch_size=BATCH, num_workers=WORKERS, collate_fn=collate, **options)


class Transformed:
    """A map-style data set of pictures."""

    def __init__(self, get: Callable[[list[int]], list[bytes]], size: int) -> None:
        self.get = get
        self.size = size
        self.function: Callable[[bytes], Any] | None = None

    def __len__(self) -> int:
        return self.size

    def __getitems__(self, indices: list[int]) -> list[Any]:
        self.function = self.function or decode()
        return [self.function(data) for data in self.get(indices)]

    def __getitem__(self, index: int) -> Any:
        return self.__getitems__([index])[0]


def mds() -> Iterator[Any]:
    from streaming import StreamingDataset

    class Pictures(StreamingDataset):  # type: ignore[misc]
        function: Any = None

        def __getitem__(self, index: Any) -> Any:
            self.function = self.function or decode()
            return self.function(super().__getitem__(index)["image"])

    return iter(torch_loader(Pictures(local=str(FOLDER / "mds"), shuffle=True, batch_size=BATCH, shuffle_seed=SEED)))


def litdata() -> Iterator[Any]:
    from litdata import StreamingDataLoader, StreamingDataset

    class Pictures(StreamingDataset):  # type: ignore[misc]
        function: Any = None

        def __getitem__(self, index: Any) -> Any:
            self.function = self.function or decode()
            return self.function(super().__getitem__(index)["image"])

    dataset = Pictures(input_dir=str(FOLDER / "litdata"), shuffle=True, seed=SEED)
    return iter(StreamingDataLoader(dataset, batch_size=BATCH, num_workers=WORKERS, collate_fn=collate))


def webdataset() -> Iterator[Any]:
    import webdataset as wds

    function: list[Any] = []

    def transform(sample: Any) -> Any:
        if not function:
            function.append(decode())
        return function[0](sample["jpg"])

    shards = sorted(str(path) for path in (FOLDER / "webdataset").iterdir())
    pipeline = (
        wds.WebDataset(shards, shardshuffle=100, seed=SEED, empty_check=False)
        .shuffle(1000)
        .map(transform)
        .batched(BATCH, collation_fn=collate)
    )
    return iter(wds.WebLoader(pipeline, batch_size=None, num_workers=WORKERS))


class LanceGet:
    def __init__(self) -> None:
        self.dataset: Any = None

    def __call__(self, indices: list[int]) -> list[bytes]:
        import lance

        self.dataset = self.dataset or lance.dataset(str(FOLDER / "lance"))
        taken: list[bytes] = self.dataset.take(indices, columns=["image"])["image"].to_pylist()
        return taken


def lance() -> Iterator[Any]:
    import lance as lance_module
    import torch

    size = lance_module.dataset(str(FOLDER / "lance")).count_rows()
    generator = torch.Generator().manual_seed(SEED)
    return iter(
        torch_loader(Transformed(LanceGet(), size), shuffle=True, generator=generator, multiprocessing_context="spawn")
    )


def huggingface() -> Iterator[Any]:
    import datasets
    import torch

    dataset = datasets.load_from_disk(str(FOLDER / "huggingface"))
    generator = torch.Generator().manual_seed(SEED)
    get = lambda indices: [image["bytes"] for image in dataset[indices]["image"]]  # noqa: E731 (a name for one formula, used here only)
    return iter(torch_loader(Transformed(get, len(dataset)), shuffle=True, generator=generator))


def headrace() -> Iterator[Any]:
    import headrace as hr

    table = hr.open(FOLDER / "headrace")["photos"]
    if WORK == "raw":
        stream = hr.Stream(table, ["image"], batch_size=BATCH, seed=SEED, epochs=1)
    else:
        stream = hr.Stream(table, ["image"], image=hr.RandomResizedCrop(224), batch_size=BATCH, seed=SEED, epochs=1)
    return (batch["image"] for batch in stream)


def main() -> None:
    if WORK != "numpy":
        import torch

        torch.set_num_threads(1)
    begun = time.perf_counter()
    batches = globals()[LOADER]()
    first = next(batches)
    consume(first)
    start = time.perf_counter()
    images = count = 0
    if WORK not in ("first", "numpy"):
        for batch in batches:
            count += consume(batch)
            images += len(batch)
    seconds = time.perf_counter() - start
    print(json.dumps({"images": images, "bytes": count, "seconds": seconds, "first": start - begun}))
    sys.stdout.flush()
    os._exit(0)  # some loaders take seconds to say goodbye


if __name__ == "__main__":
    main()
