from __future__ import annotations

from sneaker.wire.muxrpc.calls import CallKind, PeerError
from sneaker.wire.muxrpc.manifest import METHODS, Permission, is_unknown_method, manifest, refusal
from tests.wire.vectors import transcript

EBT = ("ebt", "replicate")


def test_strangers_peers_and_ourselves() -> None:
    assert manifest(Permission.ANONYMOUS) == {
        "manifest": "sync",
        "whoami": "sync",
        "gossip": {"ping": "duplex"},
        "createHistoryStream": "source",
        "ebt": {"replicate": "duplex"},
        "blobs": {"get": "source", "getSlice": "source", "has": "async", "createWants": "source"},
    }
    for permission in Permission:
        allowed = {method.name for method in METHODS if refusal(method.name, method.kind, permission) is None}
        assert allowed == {method.name for method in METHODS if method.permission <= permission}
    assert refusal(("publish",), CallKind.ASYNC, Permission.PEER) == "method:publish is not in list of allowed methods"
    assert refusal(("publish",), CallKind.ASYNC, Permission.OWN) is None


def test_texts_are_those_that_others_compare() -> None:
    missing = "method:ebt,replicateFormat is not in list of allowed methods"
    assert refusal(("ebt", "replicateFormat"), CallKind.DUPLEX, Permission.OWN) == missing
    assert refusal(EBT, CallKind.ASYNC, Permission.ANONYMOUS) == "no async:ebt,replicate"
    assert refusal(("ebt",), CallKind.ASYNC, Permission.OWN) == "method:ebt is not in list of allowed methods"


def test_only_what_is_served_is_promised() -> None:
    served = {("manifest",), EBT}
    assert manifest(Permission.OWN, served) == {"manifest": "sync", "ebt": {"replicate": "duplex"}}
    assert refusal(("whoami",), CallKind.ASYNC, Permission.OWN, served) is not None
    assert refusal(EBT, CallKind.DUPLEX, Permission.ANONYMOUS, served) is None


def test_refusals_of_all_implementations_are_recognised() -> None:
    for text in (
        "method:ebt,replicate is not in list of allowed methods",
        "muxrpc: no such command: ebt.replicate",
        "no duplex:ebt,replicate",
    ):
        assert is_unknown_method(PeerError(text), EBT)
    for text in ("reconnected to peer", "method:blobs,get is not in list of allowed methods", ""):
        assert not is_unknown_method(PeerError(text), EBT)


def test_every_request_of_the_recorded_peers_is_served_or_refused_with_the_text_they_got() -> None:
    requests = 0
    for name in ("db2-dials-ssb-server.seen-by-server.jsonl", "ssb-server-dials-server-without-ebt.jsonl"):
        for row in transcript(name):
            body = row.get("body")
            if isinstance(body, dict) and isinstance(body.get("name"), list):
                requests += 1
                text = refusal(body["name"], CallKind(body.get("type", "async")), Permission.ANONYMOUS)
                expected_missing = body["name"] in (["room", "metadata"], ["tunnel", "isRoom"], ["ooo", "stream"])
                assert (text is not None) == expected_missing
    assert requests > 10
