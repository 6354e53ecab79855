"""A keyring is a file of keys, read again when it changes: keys come and go without a restart."""

import logging
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

from foretell.errors import BadSettings
from foretell.transports.asgi.access.grants import Grant, Keys, keys_of

LOOK_AGAIN_S = 1.0
_log = logging.getLogger("foretell.keys")
_State = tuple[int, int, int]


class Keyring:
    """The keys of the file at `path`, which must be readable at first. Raises BadSettings.

    A change is seen within a second. A file that cannot be used any more leaves the former keys
    in force, and the log says so: who writes it in two steps locks nobody out.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._state: _State | None = self._look()
        self._keys = self._read()
        self._next = clock() + LOOK_AGAIN_S

    @property
    def names(self) -> frozenset[str]:
        """The names of the keys, which are no secrets."""
        return self._keys.names

    def grant_of(self, key: bytes) -> Grant:
        """What `key` allows. Raises Unauthenticated."""
        now = self._clock()
        if now >= self._next:
            self._next = now + LOOK_AGAIN_S
            self._follow()
        return self._keys.grant_of(key)

    def _follow(self) -> None:
        state = self._look()
        if state == self._state:
            return
        self._state = state
        try:
            self._keys = self._read()
        except BadSettings as error:
            _log.error("the former keys stay in force: %s", error)
        else:
            _log.info("the keys were read again")

    def _look(self) -> _State | None:
        try:
            told = self._path.stat()
        except OSError:
            return None  # reading it will say why
        return told.st_mtime_ns, told.st_size, told.st_ino

    def _read(self) -> Keys:
        try:
            return keys_of(tomllib.loads(self._path.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError) as error:
            raise BadSettings(f"the file of keys {self._path} cannot be read: {error}") from error
        except tomllib.TOMLDecodeError as error:
            raise BadSettings(f"the file of keys {self._path} is not TOML: {error}") from error
