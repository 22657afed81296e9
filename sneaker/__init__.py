"""sneaker: the sneakernet and offline-sync toolkit for Secure Scuttlebutt."""

__all__ = ["__version__"]

__version__ = "0.1.0"
