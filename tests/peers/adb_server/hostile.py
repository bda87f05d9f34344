"""What no client should send: each is answered with a sentence or an end, costs no more than its place, and harms nobody."""

import contextlib
import re
import resource
import select
import socket
import time

from clients import equal
from stage import FARMHAND_PORT, PHONES
from wire import ask, exactly, framed, rest

# A request must come whole within this time.
REQUEST_S = 30
LATE_S = 15
CROWD = 10_000
# Clients that do not read, and what is kept for each of them: one payload and the stream's window, in kB.
DEAF = 16
KEPT_KB = (1 << 10) + (4 << 10)
# What the server may grow by beside that, in kB: what the allocator keeps.
GROWTH_KB = 16 << 10


def cases(stage):
    for family, case in (
        ("wrong_lengths", wrong_lengths), ("half_requests", half_requests), ("control_characters", control_characters),
        ("service_of_1_mb", long_service), ("1_gb_without_newline", endless), ("never_reads", never_reads),
        ("10000_connections", crowd), ("slow_loris", slow_loris),
    ):
        yield "bad", family, lambda case=case: harmless(stage, case)


def harmless(stage, case):
    """Afterwards a client is answered, and the daemon has grown by little."""
    before = memory_kb(stage)
    seen = case(stage)
    equal(ask(FARMHAND_PORT, "host:version"), b"OKAY00040029", "afterwards")
    said = stage.adb(stage.googles[1], FARMHAND_PORT, ["-s", "A1", "shell", "echo alive"])
    equal((said.out, said.code), ("alive\n", 0), f"afterwards: {said.err}")
    grown = memory_kb(stage) - before
    most = GROWTH_KB + (DEAF * KEPT_KB if case is never_reads else 0)
    assert grown < most, f"the daemon has grown by {grown} kB"
    return f"{seen}; {max(grown, 0)} kB"


def memory_kb(stage):
    child = next(child for name, child in stage.children if name == "farmhand")
    with open(f"/proc/{child.pid}/status") as status:
        return int(re.search(r"VmRSS:\s+(\d+)", status.read())[1])


def connected():
    return socket.create_connection(("127.0.0.1", FARMHAND_PORT), 60)


def raw(content):
    """What comes of bytes that nobody frames."""
    with connected() as connection:
        connection.sendall(content)
        connection.shutdown(socket.SHUT_WR)
        return rest(connection)


def wrong_lengths(_):
    for content, why in ((b"zzzz", b"four hex digits"), (b"-001", b"four hex digits"), (b"0x10", b"four hex digits"),
                         (b"\0\0\0\0", b"four hex digits"), (b"0000", b"asks for nothing"), (b"0001\xff", b"UTF-8")):
        answer = raw(content)
        assert answer.startswith(b"FAIL") and why in answer, f"{content}: {answer}"
        equal(int(answer[4:8], 16), len(answer) - 8, f"the length of {answer}")
    # What comes behind a question is not taken for another one.
    assert raw(b"000chost:version000chost:version").count(b"0029") == 1
    return "six, each with a sentence"


def half_requests(_):
    for content in (b"", b"0", b"000", b"000c", b"000chost:", b"ffffabc"):
        equal(raw(content), b"", f"{content}")
    return "six, each ended without an answer"


def control_characters(stage):
    names = ["\0", "\x1b[31mA1", "A1\n", "A1\r\n0004", "A1\x7f", "\u202eA1", "../../etc/passwd", "%s%n", "A" * 4000]
    for name in names:
        answer = ask(FARMHAND_PORT, f"host:transport:{name}", "shell:true")
        assert answer.startswith(b"FAIL"), f"{name!r}: {answer}"
        answer = ask(FARMHAND_PORT, f"host-serial:{name}:get-state")
        assert answer.startswith(b"FAIL"), f"{name!r}: {answer}"
    log = (stage.log / "farmhand.log").read_text()
    assert "\x1b[31mA1" not in log and "\u202e" not in log, "they stand in the log as they came"
    return f"{len(names)} names of nobody, none of them in the log"


def long_service(_):
    whole = "x" * (1 << 20)
    # The longest that four digits can say goes to the phone, which takes no service of that length.
    answer = ask(FARMHAND_PORT, f"host:transport:{PHONES['A1']}", whole[:65535])
    equal(answer[:8], b"OKAYFAIL", "65,535 bytes")
    with connected() as connection, contextlib.suppress(ConnectionError):
        connection.sendall(framed(f"host:transport:{PHONES['A1']}"))
        equal(exactly(connection, 4), b"OKAY")
        # Its head has five digits.
        connection.sendall(framed(whole))
        answer = rest(connection)
        assert b"OKAY" not in answer, f"1 MB: {answer[:80]}"
    return "refused"


def endless(_):
    """As a request, and as the input of a command that reads none of it and of one that reads all."""
    block, sent = b"f" * (1 << 20), 0
    with connected() as connection:
        # It is read and thrown away for two seconds, and then left.
        connection.settimeout(60)
        with contextlib.suppress(ConnectionError):
            while sent < 1 << 30:
                connection.sendall(block)
                sent += len(block)
            answer = rest(connection)
            assert b"OKAY" not in answer, f"{answer[:80]}"
    with connected() as connection:
        connection.sendall(framed(f"host:transport:{PHONES['A1']}"))
        equal(exactly(connection, 4), b"OKAY")
        connection.sendall(framed("exec:head -c 1073741824 | wc -c"))
        equal(exactly(connection, 4), b"OKAY")
        for _ in range(1 << 10):
            connection.sendall(block)
        equal(rest(connection).strip(), b"1073741824", "what a command has read")
    return f"as a request its end, after {sent >> 20} MB; as a command's input all of it went through"


def never_reads(_):
    deaf = []
    for _ in range(DEAF):
        connection = connected()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for request in (f"host:transport:{PHONES['A1']}", "exec:yes"):
            connection.sendall(framed(request))
            equal(exactly(connection, 4), b"OKAY")
        deaf.append(connection)
    # Meanwhile each of them could have had as much.
    with connected() as connection:
        for request in (f"host:transport:{PHONES['A1']}", "exec:head -c 134217728 /dev/zero"):
            connection.sendall(framed(request))
            equal(exactly(connection, 4), b"OKAY")
        equal(len(rest(connection)), 134217728, "what another client has read")
    for connection in deaf:
        connection.close()
    return f"{len(deaf)} that do not read, beside one that has 134 MB"


def crowd(stage):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert hard > CROWD + 100, f"{CROWD} connections need as many descriptors, and the hard limit is {hard}"
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, CROWD + 100), hard))
    connections = []
    try:
        poll = select.epoll()
        for _ in range(CROWD):
            connection = socket.socket()
            connection.setblocking(False)
            connection.connect_ex(("127.0.0.1", FARMHAND_PORT))
            poll.register(connection, select.EPOLLOUT | select.EPOLLET)
            connections.append(connection)
        # So many have a place, or stand in the kernel's queue; the others are not answered.
        there = set()
        stage.until("its places are taken", lambda: there.update(number for number, _ in poll.poll(0.1)) or len(there) > 1000)
        said = stage.run([stage.googles[1].program, "-s", "A1", "shell", "echo hello"],
                         {"ADB_SERVER_SOCKET": f"localfilesystem:{stage.state}/adb.sock"})
        equal(said.out, "hello\n", f"by the socket: {said.err}")
    finally:
        for connection in connections:
            connection.close()
    return f"{len(there)} of {CROWD} connected; by the Unix socket all goes on"


def slow_loris(stage):
    """A byte every two seconds, of a request that would be whole after minutes."""
    slow = [connected() for _ in range(64)]
    started = time.monotonic()
    for connection in slow:
        connection.sendall(b"ffff")
    left = set(slow)
    while left:
        assert time.monotonic() - started < REQUEST_S + LATE_S, f"{len(left)} still are"
        ended, _, _ = select.select(list(left), [], [], 2)
        for connection in left:
            with contextlib.suppress(ConnectionError):
                connection.send(b"x") if connection not in ended else None
        left -= set(ended)
    took = time.monotonic() - started
    assert took > REQUEST_S - 2, f"they were left after {took:.0f} s"
    for connection in slow:
        connection.close()
    return f"64 were left after {took:.0f} s"
