"""Acts on a sandbox from outside, as its owner: opens sockets in its network, limits a process.

Usage: namespace.py FD UID GID PROXY PORT...

A program beside the server. Each message on FD says what is wanted, with the network namespace:

catch               a listener on 127.0.0.1:PROXY, one on each PORT of any address, and the name
                    server's socket; from then on every address leads to them
connect HOST PORT   a socket connected, or being connected, to a loopback address and port
measure             bytes and entries of the folder that came with the namespace, which may hold
                    folders that its owner closed to itself
buffers             bytes that wait in the namespace's sockets
limit PID N:VALUE   resource limits by number (prlimit(2)), of a process; without a namespace

It runs on the host as the sandboxes' owner, who is root of every namespace they have. So nothing
inside ever holds a capability, and no process inside ever has a socket that the server uses: who
shares one can make the other wait in a read, an accept or a close.
"""

from __future__ import annotations

import array
import ctypes
import errno
import fcntl
import os
import resource
import socket
import struct
import sys
from collections.abc import Iterator, Sequence

NS_GET_USERNS = 0xB701
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
NLMSG_ERROR, RTM_NEWROUTE = 2, 24
NLM_F_REQUEST, NLM_F_ACK, NLM_F_CREATE = 1, 4, 0x400
RT_TABLE_LOCAL, RTPROT_STATIC, RT_SCOPE_HOST, RTN_LOCAL = 255, 4, 254, 2
RTA_DST, RTA_OIF = 1, 4
# include/uapi/linux/sock_diag.h, unix_diag.h, inet_diag.h
NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, NLM_F_DUMP = 4, 20, 0x300
ALL_STATES, UDIAG_SHOW_MEMINFO, UNIX_DIAG_MEMINFO, INET_DIAG_SKMEMINFO = 0xFFFFFFFF, 0x20, 5, 7
MEMINFO_RMEM, MEMINFO_WMEM = 0, 2
HALVES = (0, 128)  # 0.0.0.0/1 and 128.0.0.0/1
PROXY_HOST = "127.0.0.1"
NAME_SERVER = ("127.0.0.53", 53)  # as resolv.conf of the template names it
BACKLOG = 512
LONGEST_MESSAGE = 256
DONE = b"done"
PENDING = (0, errno.EINPROGRESS)


def enter(network: int) -> None:
    """Join a network namespace as root of the user namespace that owns it; raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    owner = fcntl.ioctl(network, NS_GET_USERNS)
    for descriptor, kind in ((owner, CLONE_NEWUSER), (network, CLONE_NEWNET)):
        if libc.setns(descriptor, kind) != 0:
            code = ctypes.get_errno()
            raise OSError(code, f"setns: {os.strerror(code)}")


def route_message(first: int) -> bytes:
    """Make the IPv4 addresses from `first`.0.0.0 on, half of all, the loopback device's own."""
    kind = (RT_TABLE_LOCAL, RTPROT_STATIC, RT_SCOPE_HOST, RTN_LOCAL)
    message = struct.pack("=8BI", socket.AF_INET, 1, 0, 0, *kind, 0)
    message += struct.pack("=HH4B", 8, RTA_DST, first, 0, 0, 0)
    message += struct.pack("=HHI", 8, RTA_OIF, socket.if_nametoindex("lo"))
    flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE
    return struct.pack("=IHHII", 16 + len(message), RTM_NEWROUTE, flags, 1, 0) + message


def make_everything_local() -> None:
    """Add the two routes; raises OSError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        for half in HALVES:
            kernel.send(route_message(half))
            _, kind, _, _, _, code = struct.unpack_from("=IHHIIi", kernel.recv(65536))
            if kind != NLMSG_ERROR or code != 0:
                raise OSError(-code, f"adding a route: {os.strerror(-code)}")


def listeners(proxy: int, *ports: int) -> list[socket.socket]:
    """On the proxy's port, on each other of any address, and last the name server's.

    Raises OSError.
    """
    places = [(PROXY_HOST, proxy), *(("", port) for port in ports)]
    found = [socket.socket(socket.AF_INET, socket.SOCK_STREAM) for _ in places]
    for listener, place in zip(found, places, strict=True):
        listener.bind(place)  # the namespace has the loopback device only
        listener.listen(BACKLOG)
    names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    names.bind(NAME_SERVER)
    return [*found, names]


def connection(host: str, port: int) -> socket.socket:
    """Connected or being connected, which the server waits for; raises OSError."""
    found = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    found.setblocking(False)
    code = found.connect_ex((host, port))
    if code not in PENDING:
        raise OSError(code, os.strerror(code))
    return found


def diagnosed(request: bytes, *, header: int, attribute: int) -> Iterator[bytes]:
    """The memory of each socket of one kind (sock_diag(7)), as the words of SK_MEMINFO."""
    flags = NLM_F_REQUEST | NLM_F_DUMP
    message = struct.pack("=IHHII", 16 + len(request), SOCK_DIAG_BY_FAMILY, flags, 1, 0) + request
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as kernel:
        kernel.send(message)
        while True:
            data = kernel.recv(1 << 20)
            while data:
                size, kind = struct.unpack_from("=IH", data)
                if kind != SOCK_DIAG_BY_FAMILY:
                    return
                yield from attributes(data[16 + header : size], attribute)
                data = data[(size + 3) & ~3 :]


def attributes(data: bytes, wanted: int) -> Iterator[bytes]:
    while len(data) >= 4:
        size, kind = struct.unpack_from("=HH", data)
        if kind == wanted:
            yield data[4:size]
        data = data[max(4, (size + 3) & ~3) :]


def buffered() -> int:
    """Bytes that wait in the namespace's UNIX, TCP and UDP sockets; raises OSError."""
    unix = struct.pack("=BBHIIIII", socket.AF_UNIX, 0, 0, ALL_STATES, 0, UDIAG_SHOW_MEMINFO, 0, 0)
    found = list(diagnosed(unix, header=16, attribute=UNIX_DIAG_MEMINFO))
    for family in (socket.AF_INET, socket.AF_INET6):
        for protocol in (socket.IPPROTO_TCP, socket.IPPROTO_UDP):
            show = 1 << (INET_DIAG_SKMEMINFO - 1)
            request = struct.pack("=BBBBI48x", family, protocol, show, 0, ALL_STATES)
            found += diagnosed(request, header=72, attribute=INET_DIAG_SKMEMINFO)
    words = [struct.unpack_from("=9I", one) for one in found if len(one) >= 36]
    return sum(one[MEMINFO_RMEM] + one[MEMINFO_WMEM] for one in words)


def open_wanted(wanted: Sequence[str], ports: Sequence[int]) -> list[socket.socket]:
    """What one message asks for; raises OSError."""
    if wanted[0] == "connect":
        return [connection(wanted[1], int(wanted[2]))]
    # First: with the routes and no listeners, less would work than without both.
    opened = listeners(*ports)
    make_everything_local()
    return opened


def measured(folder: int) -> bytes:
    """The size of a tree; this program has no packages, but what it needs lies beside it."""
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(__file__))))
    from local_daytona.errors import Unmeasurable
    from local_daytona.isolation.usage import tree_in

    try:
        found = tree_in(folder)
    except Unmeasurable as error:
        raise OSError(errno.E2BIG, str(error)) from None
    return b"%s %d %d" % (DONE, found.bytes, found.entries)


def serve_one(
    server: socket.socket, brought: Sequence[int], wanted: Sequence[str], ports: Sequence[int]
) -> None:
    """Answer with the sockets or numbers, or with the number of the reason and the reason."""
    try:
        enter(brought[0])
        if wanted[0] == "measure":
            server.send(measured(brought[1]))
            return
        if wanted[0] == "buffers":
            server.send(b"%s %d" % (DONE, buffered()))
            return
        opened = open_wanted(wanted, ports)
    except OSError as error:
        server.send(f"{error.errno or 0} {error.strerror or error}".encode())
        return
    rights = array.array("i", [each.fileno() for each in opened])
    server.sendmsg([DONE], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])


def limit(server: socket.socket, pid: int, limits: Sequence[str]) -> None:
    """Set them, none above what the process may have already; answer as above."""
    try:
        for number, value in (map(int, pair.split(":")) for pair in limits):
            _, most = resource.prlimit(pid, number)
            allowed = value if most == resource.RLIM_INFINITY else min(value, most)
            resource.prlimit(pid, number, (allowed, allowed))
    except OSError as error:
        server.send(f"{error.errno or 0} {error.strerror or error}".encode())
    else:
        server.send(DONE)


def in_a_child(
    server: socket.socket, brought: Sequence[int], wanted: Sequence[str], ports: Sequence[int]
) -> None:
    """A process of its own for each namespace: there is no way back out of a user namespace."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            serve_one(server, brought, wanted, ports)
            code = 0
        finally:
            os._exit(code)
    if os.waitpid(child, 0)[1] != 0:
        server.send(b"0 the program that opens its sockets failed")


def main(argv: Sequence[str]) -> int:
    descriptor, uid, gid, *ports = map(int, argv)
    server = socket.socket(fileno=descriptor)
    if os.geteuid() == 0 and uid != 0:
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    while True:
        message, ancillary, _, _ = server.recvmsg(
            LONGEST_MESSAGE, socket.CMSG_LEN(2 * array.array("i").itemsize), socket.MSG_CMSG_CLOEXEC
        )
        if not message:
            return 0  # the server is gone
        wanted = message.decode().split()
        if wanted[0] == "limit":
            limit(server, int(wanted[1]), wanted[2:])
            continue
        brought = array.array("i", ancillary[0][2])
        in_a_child(server, brought, wanted, ports)
        for descriptor in brought:
            os.close(descriptor)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
