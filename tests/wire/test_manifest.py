from __future__ import annotations

from sneaker.wire.muxrpc.calls import CallKind, PeerError
from sneaker.wire.muxrpc.manifest import Method, Permission, is_unknown_method, manifest_for, refusal_text

WHOAMI = Method(("whoami",), CallKind.ASYNC, Permission.STRANGER, sync=True)
REPLICATE = Method(("ebt", "replicate"), CallKind.DUPLEX, Permission.STRANGER)
CLOCK = Method(("ebt", "clock"), CallKind.ASYNC, Permission.REPLICATED_PEER)
PUBLISH = Method(("publish",), CallKind.ASYNC, Permission.OWN_KEY)
METHODS = (WHOAMI, REPLICATE, CLOCK, PUBLISH)


def test_each_may_call_what_those_before_it_may() -> None:
    stranger = {"whoami": "sync", "ebt": {"replicate": "duplex"}}
    assert manifest_for(Permission.STRANGER, METHODS) == stranger
    peer = {"whoami": "sync", "ebt": {"replicate": "duplex", "clock": "async"}}
    assert manifest_for(Permission.REPLICATED_PEER, METHODS) == peer
    assert manifest_for(Permission.OWN_KEY, METHODS) == {**peer, "publish": "async"}
    for permission in Permission:
        for method in METHODS:
            allowed = refusal_text(method, method.name, method.kind, permission) is None
            assert allowed == (method.permission <= permission)


def test_texts_are_those_that_others_compare() -> None:
    missing = "method:ebt,replicateFormat is not in list of allowed methods"
    assert refusal_text(None, ("ebt", "replicateFormat"), CallKind.DUPLEX, Permission.OWN_KEY) == missing
    assert refusal_text(REPLICATE, REPLICATE.name, CallKind.ASYNC, Permission.STRANGER) == "no async:ebt,replicate"
    hidden = "method:publish is not in list of allowed methods"
    assert refusal_text(PUBLISH, PUBLISH.name, CallKind.ASYNC, Permission.REPLICATED_PEER) == hidden


def test_refusals_of_all_implementations_are_recognised() -> None:
    for text in (
        "method:ebt,replicate is not in list of allowed methods",
        "muxrpc: no such command: ebt.replicate",
        "no duplex:ebt,replicate",
    ):
        assert is_unknown_method(PeerError(text), REPLICATE.name)
    for text in ("reconnected to peer", "method:blobs,get is not in list of allowed methods", ""):
        assert not is_unknown_method(PeerError(text), REPLICATE.name)
