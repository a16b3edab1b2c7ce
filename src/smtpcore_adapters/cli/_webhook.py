"""The destinations `https:` and `http:`, a webhook, and the parameters of their URLs."""

import os
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, Final, Literal, Protocol

from ._files import Checking, first_line, trusting

WEBHOOK_PARAMETERS: Final[Mapping[str, Any]] = {
    "format": Literal["raw", "multipart"],
    "secret_file": str,
    "secret_env": str,
    "token_file": str,
    "token_env": str,
    "tls_ca": str,
    "timeout": float,
    "connect_timeout": float,
}
"""The parameters of `https:`, with their types."""
HTTP_PARAMETERS: Final[Mapping[str, Any]] = {**WEBHOOK_PARAMETERS, "allow_http": bool}
"""The parameters of `http:`, with their types."""


class Located(Protocol):
    """A destination with the parameters of its URL."""

    @property
    def url(self) -> str: ...
    @property
    def parameters(self) -> Mapping[str, Any]: ...


def make_webhook(target: Located, server: Checking) -> object | None:
    """Return the handler that sends messages to an endpoint; None if the server is only checked.

    Raises `ValueError` or `OSError`.
    """
    url = target.url.partition("?")[0]
    if find_spec("h11") is None:
        raise ValueError(f"{url} needs another package: pip install 'smtpcore[webhook]'")

    from ..stores.webhook import Webhook

    given = target.parameters
    options = {name: given[name] for name in ("format", "allow_http", "timeout", "connect_timeout") if name in given}
    if "tls_ca" in given:
        options["context"] = trusting(given["tls_ca"])
    webhook = Webhook(url, secret=_secret("secret", given), token=_secret("token", given), **options)
    return None if server.is_check else webhook


def _secret(name: str, given: Mapping[str, Any]) -> str | None:
    """Return the secret from the file or the environment variable that the parameters name, or None."""
    file, variable = given.get(f"{name}_file"), given.get(f"{name}_env")
    if file and variable:
        raise ValueError(f"{name}_file and {name}_env exclude each other")
    if variable and not os.environ.get(variable):
        raise ValueError(f"{name}_env: the environment has no variable {variable}")

    return os.environ[variable] if variable else first_line(file, name) if file else None
