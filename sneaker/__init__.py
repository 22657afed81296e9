"""sneaker: the sneakernet and offline-sync toolkit for Secure Scuttlebutt.

What other programs may use is named here and explained in ``guide/python-api.md``; it lives in ``sneaker.api``.
"""

from typing import TYPE_CHECKING

__all__ = [
    "ExportReport",
    "Home",
    "ImportReport",
    "Message",
    "SneakerError",
    "VerifyReport",
    "__version__",
    "export",
    "import_files",
    "open_home",
    "read_bundle",
    "verify",
]

__version__ = "0.1.0"

if TYPE_CHECKING:
    from sneaker.api import (
        ExportReport,
        Home,
        ImportReport,
        Message,
        SneakerError,
        VerifyReport,
        export,
        import_files,
        open_home,
        read_bundle,
        verify,
    )
else:

    def __getattr__(name: str) -> object:
        """Load the API when it is used: the command line does not need it, and people wait for that."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from sneaker import api

        return getattr(api, name)
