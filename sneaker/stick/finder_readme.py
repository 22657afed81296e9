"""What a stick says to whoever finds it: a file in plain words beside the marker."""

from __future__ import annotations

__all__ = ["README_TEXT"]

README_TEXT = """\
This stick carries messages of people of the Secure Scuttlebutt network
between places that have no internet.

If you found it: please bring it back, or plug it into any machine with
"sneaker" on it. Nothing on it is ever run as a program. It holds no
passwords and no keys, but it shows which machines it went to, and when.
The files in this folder belong together; please do not change or delete
them.
"""
