"""The network protocols of Scuttlebutt without any network: bytes in, events and bytes out.

Nothing in this package opens a socket, reads a clock or makes a random number.  One module for each protocol:

    stream_reader        the contract of everything that reads bytes: receive_data, next_event, NEED_DATA, trailing_data
    handshake            ClientHandshake, ServerHandshake
    boxstream            Boxer, Unboxer
    muxrpc/packets       muxrpc packets
    muxrpc/calls         the values of calls: requests, items, ends
    muxrpc/session       Session: calls, items, ends
    muxrpc/manifest      what a method is, who may call it, the texts of refusals
    ebt/notes            items of EBT streams
    ebt/events           what comes out of an EBT connection
    ebt/connection       EbtConnection, made by Replicator
    ebt/replicator       Replicator: what all EBT connections share
    ebt/overdue          what was announced and does not come
    history              createHistoryStream
    blobs                BlobExchange, BlobReceiver, argument parsers
    beacon               LAN packets
    address              multiserver addresses
    json_text            JSON around message text that stays as it is

How a driver uses this
----------------------

A connection is four objects on top of each other; the driver moves bytes between them and a socket.

1.  Handshake. Write ``handshake.data_to_send()`` after creating it and after every ``next_event()``; feed what the
    socket gives to ``receive_data``.  A server gets ClientAuthenticated, looks whether that peer is welcome and calls
    ``accept_client()`` or ``refuse_client()`` (then it closes).  Both sides get HandshakeDone; give up after five seconds.
2.  ``Unboxer(keys.decrypt_key, keys.decrypt_nonce)`` takes ``handshake.trailing_data`` first, then the socket's bytes;
    ``Boxer(keys.encrypt_key, keys.encrypt_nonce)`` makes what goes out.
3.  ``Session``. One turn of the loop is::

        unboxer.receive_data(data)                             # what the socket gave, b"" at its end
        while (plain := unboxer.next_event()) is not NEED_DATA:
            session.receive_data(b"" if plain is GOODBYE else plain)
            while (event := session.next_event()) is not NEED_DATA:
                dispatch(event)                                # never waits; queues items for the call's task
        writer.write(boxer.box(session.data_to_send()))
        await writer.drain()

    and the socket is read again only while ``session.wants_pause`` is false; tasks that take items from their queue
    call ``session.consumed(call, len(body))``.  Tasks that send wait while ``session.outgoing_bytes`` is large.  When a
    task has ended, call ``session.end(call)``, or ``session.end(call, error.message)`` if it raised CallRefused.
    ``manifest.refusal_text`` decides about every RequestReceived first.
    To close: ``session.goodbye()``, wait a moment for SessionEnded, write ``boxer.goodbye()``.
4.  On an ``ebt.replicate`` call (ours if we dialled), ``connection = replicator.connect(peer, client=we_dialled,
    saved_clock=…, withheld=…, now=…)``.  Every item goes to ``connection.receive(body, now)``: MessageItem goes to
    the one door in, and once the store has *committed*, ``replicator.appended(feed, sequence)`` is called, as for every
    message from elsewhere.  Whenever some ``connection.wants_to_send`` and its session is not full, send
    ``notes_to_send()`` and then the messages of ``next_run()``.  ``replicator.get_timer()`` says when to call
    ``handle_timer``; ``connection.next_fetch(now)``, asked every second, which feed to ask for by createHistoryStream,
    because the peer announced it and does not send it.  At the end save ``connection.remote_clock`` and call
    ``replicator.disconnect(connection)``.  A peer that has no EBT (``manifest.is_unknown_method``) gets
    ``createHistoryStream`` calls.

Errors: RemoteProtocolError ends the connection, CallRefused one call, LocalProtocolError is a bug of the driver's.
"""

__all__: list[str] = []
