"""What ``--json`` prints: the documented shapes, how each is made from a result, and the one encoder.

``sneaker/guide/json.md`` is generated from these types by ``scripts/make-json-contract``.
"""
