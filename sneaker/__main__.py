"""``python -m sneaker`` is ``sneaker``."""

from sneaker.cli import main

main()
