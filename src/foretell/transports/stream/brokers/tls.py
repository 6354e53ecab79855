"""TLS to a broker: whom to trust and who one is, as its URL says it; and what no waiting mends."""

import re
import ssl
from typing import NamedTuple

from foretell.errors import BadSettings

OPTIONS = {"ca": "", "cert": "", "key": ""}
"""Options of each URL that asks for TLS: files in PEM."""

_CERTIFICATE = re.compile(
    "ALERT_(BAD_CERTIFICATE|UNSUPPORTED_CERTIFICATE|CERTIFICATE_|UNKNOWN_CA|HANDSHAKE_FAILURE|ACCESS)"
)


class Tls(NamedTuple):
    """Files of authorities (else the system's), and of an own certificate and its key."""

    ca: str
    cert: str
    key: str

    def context(self) -> ssl.SSLContext:
        """What a handshake needs; the server's name is verified. Raises BadSettings."""
        context = ssl.create_default_context()
        if self.ca:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            try:
                context.load_verify_locations(self.ca)
            except OSError as error:
                raise BadSettings(f"ca={self.ca} cannot be used: {_why(error)}") from None
        if self.cert:
            try:
                context.load_cert_chain(self.cert, self.key or None, _no_password)
            except (OSError, ValueError) as error:
                told = f"cert={self.cert}" + (f"&key={self.key}" if self.key else "")
                raise BadSettings(f"{told} cannot be used: {_why(error)}") from None
        return context


def _no_password() -> str:
    raise ValueError("the key has a password; write it without one")


def _why(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def refusal(error: object) -> str | None:
    """What to do where `error`, or what is behind it, is of certificates and not of an outage."""
    one: object | None = error
    texts: list[str] = []
    while one is not None and len(texts) < 10:
        texts.append(str(one))
        one = (one.__cause__ or one.__context__) if isinstance(one, BaseException) else None
    told = " ".join(texts).upper().replace(" ", "_")
    if "CERTIFICATE_VERIFY_FAILED" in told:
        found = re.search(r"verify failed:? ?([^(\[]*)", " ".join(texts))
        why = found.group(1).strip(" :.") if found else ""
        told = f" ({why})" if why else ""
        return f"its certificate is not trusted{told}; name its authority with ca=FILE"
    if _CERTIFICATE.search(told):
        return (
            "it does not take this client's certificate, or its lack; name it with cert= and key="
        )
    if "WRONG_VERSION_NUMBER" in told or "RECORD_LAYER_FAILURE" in told:
        return "it speaks no TLS at this port; name the port that does, or leave TLS out of the URL"
    return None
