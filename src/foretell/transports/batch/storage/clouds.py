"""A cloud is where object stores lie: the libraries behind `s3://`, `gs://` and `az://`.

Rules:

1. Credentials, endpoints, proxies and retries are the libraries' own: their files and variables
   (AWS_PROFILE, STORAGE_EMULATOR_HOST, AZURE_STORAGE_CONNECTION_STRING, FSSPEC_S3_…) hold.
2. Listings are never remembered: others write there, too.
3. What is read is what was found: an object that was replaced since is told as such.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple

from foretell.errors import BadSettings, MissingExtra, StoreFailed
from foretell.transports.batch.storage.failures import codes_of, failing

_BLOCK_BYTES = 4 * 2**20
_MOST_BLOCKS = 16


class Cloud(NamedTuple):
    """What reads and writes the URLs of one scheme."""

    library: str
    stamp: str
    """The key in a listing that tells one content of an object from another."""


CLOUDS: Mapping[str, Cloud] = {
    "s3": Cloud("s3fs", "ETag"),
    "gs": Cloud("gcsfs", "etag"),
    "az": Cloud("adlfs", "etag"),
}


class Found(NamedTuple):
    """An object that was found."""

    url: str
    size: int
    stamp: str


def is_url(place: str) -> bool:
    """Whether a place is a URL. Raises BadSettings for one that no library here knows."""
    scheme, separator, rest = place.partition("://")
    if not separator:
        return False
    if scheme not in CLOUDS:
        known = ", ".join(f"{known}://" for known in CLOUDS)
        raise BadSettings(f"{place} is no place that can be read or written; there are {known}")
    if not rest.strip("/"):
        raise BadSettings(f"{place} names no bucket, as in {scheme}://bucket/folder")
    return True


def scheme_of(url: str) -> str:
    """The part in front of `://`."""
    return url.partition("://")[0]


def key_of(url: str) -> str:
    """Bucket and key, as the libraries write them."""
    return url.partition("://")[2].rstrip("/")


def filesystem(url: str) -> Any:
    """The library for a URL, logged in lazily. Raises MissingExtra, StoreFailed."""
    import fsspec

    scheme = scheme_of(url)
    with failing(url):
        try:
            return fsspec.filesystem(scheme, use_listings_cache=False)
        except ImportError as error:
            told = f"{scheme}:// needs {CLOUDS[scheme].library}: install foretell[{scheme}]"
            raise MissingExtra(told) from error


def listed(url: str, start: str = "") -> Iterator[Found]:
    """All objects below a URL, or the one it names, in any order: one listing, whatever there is.

    With `start`, the store leaves out those below it whose names begin otherwise. Raises
    StoreFailed, also for a bucket that is not there.
    """
    scheme = scheme_of(url)
    with failing(url):
        library = filesystem(url)
        begun = {"prefix": start} if start else {}
        every = library.find(key_of(url), detail=True, **begun)
        if isinstance(every, list):  # adlfs', for the name of a file
            every = {key: library.info(key) for key in every}
    for key, told in every.items():
        if told["type"] == "file":
            yield Found(f"{scheme}://{key}", told["size"], stamp_of(scheme, told))


def stamp_of(scheme: str, told: Mapping[str, Any]) -> str:
    """What tells one content of an object from another."""
    return str(told[CLOUDS[scheme].stamp]).strip('"')


def opened(url: str, stamp: str | None = None) -> BinaryIO:
    """An object to be read, anywhere in it. Raises KeyError, StoreFailed.

    Some blocks around what was read are kept: columns of a Parquet file lie side by side.
    """
    file = None
    with failing(url, reading=True), contextlib.suppress(FileNotFoundError, IsADirectoryError):
        file = filesystem(url).open(
            key_of(url),
            "rb",
            block_size=_BLOCK_BYTES,
            cache_type="blockcache",
            cache_options={"maxblocks": _MOST_BLOCKS},
        )
    if file is None or file.details["type"] == "directory":
        raise KeyError(url)
    if stamp is not None and stamp_of(scheme_of(url), file.details) != stamp:
        raise StoreFailed(f"{url} was written anew while the job ran: start it afresh")
    return io.BufferedReader(_Download(url, file))


class _Download(io.RawIOBase):
    """An object that is read; what fails is told in a sentence."""

    def __init__(self, url: str, file: Any) -> None:
        self._url = url
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def readinto(self, buffer: Any, /) -> int:
        with failing(self._url, reading=True):
            return int(self._file.readinto(buffer))

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


class Upload(io.RawIOBase):
    """An object that is written: it appears when it is committed."""

    # Stores take at most 10,000 parts: they grow with what was written, up to the 5 TiB of S3.
    PART_BYTES = 16 * 2**20
    _GROWTH = 1500

    def __init__(self, url: str) -> None:
        self._url = url
        with failing(url):
            self._file = filesystem(url).open(key_of(url), "wb", block_size=self.PART_BYTES)

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return int(self._file.tell())

    def write(self, data: Any, /) -> int:
        with failing(self._url):
            self._file.blocksize = max(self.PART_BYTES, self._file.tell() // self._GROWTH)
            return int(self._file.write(data))

    def commit(self) -> None:
        """Let it appear, whole; or what another writer of it has committed meanwhile."""
        with failing(self._url):
            try:
                self._file.close()
            except Exception as error:
                # Azure forgets the blocks of all others when one writer commits.
                if "InvalidBlockList" not in codes_of(error):
                    raise

    def abandon(self) -> None:
        """Let nothing appear."""
        # What was uploaded stays invisible where the store does not answer, and is swept later.
        with contextlib.suppress(Exception):
            self._file.discard()
        self._file.closed = True  # else its end, whenever that is, would commit it


def abort_uploads(url: str, *, below: bool) -> None:
    """End the uploads to a URL, or to all below it, that nobody is going to end."""
    # Only S3 has them: the others forget after a week what was not committed.
    if scheme_of(url) != "s3":
        return
    # They hurt nobody, and not everyone who may write may list them.
    with failing(url), contextlib.suppress(PermissionError, NotImplementedError):
        s3 = filesystem(url)
        bucket, key, _ = s3.split_path(key_of(url))
        prefix = f"{key}/" if below and key else key
        told = s3.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=prefix)
        for upload in told.get("Uploads", ()):
            if below or upload["Key"] == key:
                which = {"Key": upload["Key"], "UploadId": upload["UploadId"]}
                s3.call_s3("abort_multipart_upload", Bucket=bucket, **which)
