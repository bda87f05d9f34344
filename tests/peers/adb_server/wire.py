"""Requests of the adb server's protocol, byte by byte: four hex digits, and a text of so many bytes."""

import socket

# An answer comes within a second, where nothing is wrong.
ANSWER_S = 15


def framed(text):
    text = text if isinstance(text, bytes) else text.encode()
    return b"%04x" % len(text) + text


def exactly(connection, count):
    """So many bytes, or what came before the end."""
    data = bytearray()
    while len(data) < count and (more := connection.recv(count - len(data))):
        data += more
    return bytes(data)


def rest(connection):
    data = bytearray()
    while more := connection.recv(1 << 16):
        data += more
    return bytes(data)


def ask(port, *requests):
    """What comes of one request after the other on one connection: all but the last bind it to a phone."""
    with socket.create_connection(("127.0.0.1", port), ANSWER_S) as connection:
        *binding, last = requests
        said = b""
        for request in binding:
            connection.sendall(framed(request))
            answer = exactly(connection, 4)
            said += answer
            if answer != b"OKAY":
                return said + rest(connection)
            if "tport:" in request:
                # The number of the transport, which each server counts by itself.
                said += b"(%d bytes)" % len(exactly(connection, 8))
        connection.sendall(framed(last))
        return said + rest(connection)


def first(port, request):
    """The first list of a request that goes on, and what comes before it."""
    with socket.create_connection(("127.0.0.1", port), ANSWER_S) as connection:
        connection.sendall(framed(request))
        head = exactly(connection, 8)
        return head[:4], exactly(connection, int(head[4:], 16))
