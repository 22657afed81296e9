"""What a stick tells whoever finds it: no secret, and of machines what their cards hold."""

from __future__ import annotations

import base64
from pathlib import Path

from sneaker.bundle.card import decode_card
from tests.sticks import cards, machines, snapshot


def test_a_stick_holds_no_secret_and_the_cards_of_its_machines(tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    (first, second) = machines(tmp_path, stick, "AB")
    for machine in (first, second, first):
        assert machine.sync(stick).complete
    files = snapshot(stick)
    assert any(name.endswith(".sneaker") for name in files)
    for machine in (first, second):
        seed = machine.keypair.seed
        for text in (
            seed,
            base64.b64encode(seed).rstrip(b"="),
            base64.b32encode(seed).rstrip(b"=").lower(),
            seed.hex(),
        ):
            raw = text if isinstance(text, bytes) else text.encode()
            assert not [name for name, data in files.items() if raw in data or raw.decode("latin-1") in name]
    found = {card.machine: card for card in map(decode_card, (path.read_bytes() for path in cards(stick).iterdir()))}
    assert set(found) == {first.me, second.me}
    assert found[first.me].clock == first.clock()
    assert found[first.me].time_ms <= first.now_ms
