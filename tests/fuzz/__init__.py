"""Fuzzing: for each reader of what others wrote a target, a function of bytes that raises if a promise is broken.

The tests give every target what it begins with and what was kept in ``corpus/``; ``scripts/fuzz`` has atheris look for more.
An input that broke something goes into ``corpus/TARGET/`` under a name that says what it is.
"""
