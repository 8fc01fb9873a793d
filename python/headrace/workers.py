"""A function of a batch, run in programs of their own.

The programs are started afresh (never forked), get the function by cloudpickle and batches over memory files that are passed by
descriptor: nothing has a name, so nothing can be left behind. One that dies is started again and given its batch once more.
"""

from __future__ import annotations

import collections
import contextlib
import importlib
import mmap
import os
import pickle
import socket
import struct
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headrace.stream import Stream

_HEAD = struct.Struct("<QQ")  # bytes of the pickle, bytes of the memory file
_ALIGN = 64
_INLINE = 4096  # bytes of a message that go through the socket; more lie in a memory file
_ATTEMPTS = 3


def _dump_function(function: Callable[..., Any]) -> bytes:
    try:
        cloudpickle = importlib.import_module("cloudpickle")
    except ImportError:
        try:
            return pickle.dumps(function)
        except Exception as error:
            raise RuntimeError(
                f"{function!r} cannot travel to a worker by pickle; install cloudpickle, or define it in a module"
            ) from error
    dumped: bytes = cloudpickle.dumps(function)
    return dumped


def _send(channel: socket.socket, value: Any) -> None:
    """Sends a value. Whatever its size, no more than `_INLINE` bytes and a head go through the socket: both sides may
    send at once, and neither would read if the socket's buffers were full."""
    buffers: list[pickle.PickleBuffer] = []
    body = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    views = [buffer.raw() for buffer in buffers]
    if len(body) > _INLINE or len(views) > _INLINE // 64:
        views.append(memoryview(pickle.dumps(([view.nbytes for view in views], body), protocol=5)))
        message = pickle.dumps(views[-1].nbytes)
    else:
        message = pickle.dumps(([view.nbytes for view in views], body), protocol=5)
    size = sum(_aligned(view.nbytes) for view in views)
    descriptors = []
    if size:
        descriptor = os.memfd_create("headrace-batch", os.MFD_CLOEXEC)
        descriptors.append(descriptor)
        os.ftruncate(descriptor, size)
        with mmap.mmap(descriptor, size) as memory:
            offset = 0
            for view in views:
                memory[offset : offset + view.nbytes] = view
                offset += _aligned(view.nbytes)
    try:
        socket.send_fds(channel, [_HEAD.pack(len(message), size)], descriptors)
        channel.sendall(message)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _aligned(size: int) -> int:
    return -(-size // _ALIGN) * _ALIGN


def _receive(channel: socket.socket) -> Any:
    head, descriptors, _, _ = socket.recv_fds(channel, _HEAD.size, 1)
    head += _exactly(channel, _HEAD.size - len(head)) if head else b""
    if not head:
        raise EOFError
    length, size = _HEAD.unpack(head)
    message = pickle.loads(_exactly(channel, length))
    memory = memoryview(b"")
    if size:
        memory = memoryview(
            mmap.mmap(descriptors[0], size, flags=mmap.MAP_PRIVATE)
        )  # stays as long as an array looks at it
        os.close(descriptors[0])
    if isinstance(message, int):  # it lies at the end of the memory
        begin = size - _aligned(message)
        message = pickle.loads(memory[begin : begin + message])
    sizes, body = message
    buffers, offset = [], 0
    for each in sizes:
        buffers.append(memory[offset : offset + each])
        offset += _aligned(each)
    return pickle.loads(body, buffers=buffers)


def _exactly(channel: socket.socket, length: int) -> bytes:
    message = bytearray()
    while len(message) < length:
        part = channel.recv(min(1 << 20, length - len(message)))
        if not part:
            raise EOFError
        message += part
    return bytes(message)


class _Worker:
    def __init__(self, function: bytes) -> None:
        self.function = function
        self.pending: collections.deque[tuple[Any, int]] = collections.deque()
        self.start()

    def start(self) -> None:
        self.channel, theirs = socket.socketpair()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "headrace.workers", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        theirs.close()
        self.channel.sendall(_HEAD.pack(len(self.function), 0) + self.function)

    def give(self, batch: Any, attempt: int = 1) -> None:
        self.pending.append((batch, attempt))
        with contextlib.suppress(OSError):  # a dead worker is found when its answer is awaited
            _send(self.channel, batch)

    def answer(self) -> Any:
        while True:
            try:
                done, value = _receive(self.channel)
                self.pending.popleft()
                break
            except (EOFError, OSError):
                self.restart()
        if not done:
            raise RuntimeError(f"the function failed in a worker:\n{value}")
        return value

    def restart(self) -> None:
        code = self.process.wait()
        self.channel.close()
        waiting = list(self.pending)
        self.pending.clear()
        if waiting and waiting[0][1] >= _ATTEMPTS:
            raise RuntimeError(f"a worker died {_ATTEMPTS} times over one batch (exit status {code})")
        self.start()
        for index, (batch, attempt) in enumerate(waiting):
            self.give(batch, attempt + (index == 0))

    def stop(self) -> None:
        self.channel.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def map_in_workers(stream: Stream, function: Callable[[dict[str, Any]], Any], count: int) -> Iterator[Any]:
    """The stream's epoch through `function`, in order, `count` batches at a time."""
    dumped = _dump_function(function)
    workers = [_Worker(dumped) for _ in range(count)]
    states: collections.deque[str] = collections.deque()
    batches = stream._batches()
    given = taken = 0
    finished = False
    stream._mapped = stream._native.state()
    try:
        while True:
            while not finished and given - taken < 2 * count:
                batch = next(batches, None)
                if batch is None:
                    finished = True
                    break
                workers[given % count].give(batch.to_dict())
                states.append(batch.state)
                given += 1
            if taken == given:
                break
            result = workers[taken % count].answer()
            taken += 1
            stream._mapped = states.popleft()
            yield result
    finally:
        for worker in workers:
            worker.stop()
        mapped, stream._mapped = stream._mapped, None
        if mapped is not None and not (finished and taken == given):
            stream._native.load(mapped)  # batches that were made ahead are made again


def _main() -> None:
    channel = socket.socket(fileno=int(sys.argv[1]))
    length, _ = _HEAD.unpack(channel.recv(_HEAD.size, socket.MSG_WAITALL))
    function = pickle.loads(channel.recv(length, socket.MSG_WAITALL))
    while True:
        try:
            batch = _receive(channel)
        except (EOFError, OSError):
            return  # whoever started this is gone, or done
        try:
            answer = (True, function(batch))
        except BaseException:
            answer = (False, traceback.format_exc())
        try:
            _send(channel, answer)
        except OSError:
            return


if __name__ == "__main__":
    _main()
