"""Write recordings to files and read them back, however they end.

A file is a line that says what it is, and then frames: length and CRC-32 of what follows, four
bytes each, little endian; then a chunk of records, compressed by zlib.  A file that was cut off
gives all that was whole.  Nothing in a file makes a reader take more than a few MiB.
"""

from __future__ import annotations

import zlib
from struct import Struct
from typing import TYPE_CHECKING, BinaryIO, Self

import msgspec

from gpuward.agent.recording import RecordingError
from gpuward.agent.recording_decode import RecordDecoder
from gpuward.agent.recording_encode import RecordEncoder
from gpuward.agent.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.model import Batch
    from gpuward.agent.recording import Begun, Moment, Record

MAGIC = b"gpuward recording\n"
FRAME = Struct("<II")
MOST_FRAME_BYTES = 4 << 20
MOST_CHUNK_BYTES = 16 << 20
# So much is collected before a frame is written; a crash loses no more.
CHUNK_RECORDS = 256
LEVEL = 6


class RecordingFile:
    """Writes chunks of records, as an agent sends them."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        file.write(MAGIC)

    def write(self, chunk: bytes) -> None:
        """Add one chunk: a MessagePack array of records."""
        payload = zlib.compress(chunk, LEVEL)
        if len(payload) > MOST_FRAME_BYTES or len(chunk) > MOST_CHUNK_BYTES:
            raise ValueError(f"a chunk of {len(chunk)} bytes; the limit is {MOST_CHUNK_BYTES}")
        self._file.write(FRAME.pack(len(payload), zlib.crc32(payload)))
        self._file.write(payload)
        # Whoever ends us loses what is under way, no more.
        self._file.flush()


class RecordingWriter:
    """Records without an agent: a test's batches, or a simulator's."""

    def __init__(
        self, file: BinaryIO, *, node: str, mono_s: float, wall_s: float, with_names: bool = True
    ) -> None:
        self._encoder = RecordEncoder(with_names=with_names)
        self._file = RecordingFile(file)
        self._now_s = mono_s
        self._judged = 0
        self._records: list[Record] = [
            self._encoder.begun(agent_version=VERSION, node=node, mono_s=mono_s, wall_s=wall_s)
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._records.append(self._encoder.ended(self._now_s))
        self._flush()

    def take(self, at_s: float, source: str, batch: Batch) -> None:
        """Record what sampler ``source`` brought at ``at_s``, not before what was recorded last."""
        self._now_s = at_s
        self._records += self._encoder.taken(at_s, source, batch)
        self._flush_if_full()

    def tick(self, at_s: float) -> None:
        """Record that the judge judged at ``at_s``."""
        self._now_s = at_s
        self._records.append(self._encoder.judged(at_s, self._judged))
        self._judged += 1
        self._flush_if_full()

    def _flush_if_full(self) -> None:
        if len(self._records) >= CHUNK_RECORDS:
            self._flush()

    def _flush(self) -> None:
        self._file.write(msgspec.msgpack.encode(self._records))
        self._records = []


class RecordingReader:
    """Iterates over what a file tells, oldest first; raises ``RecordingError`` where it is none.

    ``damage`` says after that why the file ended before its end; empty when it is complete.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decoder = RecordDecoder()
        self.damage = ""

    @property
    def begun(self) -> Begun:
        """Of whom it is; there as soon as anything has been read."""
        if self._decoder.begun is None:
            raise RecordingError("it is empty")
        return self._decoder.begun

    @property
    def passed_over(self) -> int:
        """Samples and events that this version does not know."""
        return self._decoder.passed_over

    def __iter__(self) -> Iterator[Moment]:
        if self._file.read(len(MAGIC)) != MAGIC:
            raise RecordingError("it is no recording of gpuward's")
        number = 0
        while (chunk := self._chunk()) is not None:
            number += 1
            try:
                yield from self._decoder.decode(chunk)
            except RecordingError as error:
                if self._decoder.begun is None:
                    raise
                self.damage = f"frame {number}: {error}"
                return
        if self._decoder.begun is None:
            raise RecordingError(self.damage or "it is empty")
        if not self.damage and not self._decoder.is_complete:
            self.damage = "it was cut off"

    def _chunk(self) -> bytes | None:
        """Return the next chunk, ``None`` at the end or where the file is damaged."""
        head = self._file.read(FRAME.size)
        if not head:
            return None
        if len(head) < FRAME.size:
            self.damage = "it was cut off"
            return None
        length, checksum = FRAME.unpack(head)
        if length > MOST_FRAME_BYTES:
            self.damage = f"a frame of {length} bytes; the limit is {MOST_FRAME_BYTES}"
            return None
        payload = self._file.read(length)
        if len(payload) < length:
            self.damage = "it was cut off"
            return None
        if zlib.crc32(payload) != checksum:
            self.damage = "a frame is damaged"
            return None
        return self._inflated(payload)

    def _inflated(self, payload: bytes) -> bytes | None:
        inflater = zlib.decompressobj()
        try:
            chunk = inflater.decompress(payload, MOST_CHUNK_BYTES)
        except zlib.error as error:
            self.damage = f"a frame is damaged: {error}"
            return None
        if inflater.unconsumed_tail or not inflater.eof:
            self.damage = f"a frame of more than {MOST_CHUNK_BYTES} bytes, or one that has no end"
            return None
        return chunk
