"""Acts on a sandbox from outside, as its owner: opens sockets in its network, limits a process.

Usage: namespace.py FD UID GID PROXY PORT...

A program beside the server. Each message on FD says what is wanted, with the network namespace:

catch               a listener on 127.0.0.1:PROXY, one on each PORT of any address, and the name
                    server's socket; from then on every address leads to them
connect HOST PORT   a socket connected, or being connected, to a loopback address and port
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
from collections.abc import Sequence

NS_GET_USERNS = 0xB701
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
NLMSG_ERROR, RTM_NEWROUTE = 2, 24
NLM_F_REQUEST, NLM_F_ACK, NLM_F_CREATE = 1, 4, 0x400
RT_TABLE_LOCAL, RTPROT_STATIC, RT_SCOPE_HOST, RTN_LOCAL = 255, 4, 254, 2
RTA_DST, RTA_OIF = 1, 4
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


def open_wanted(wanted: Sequence[str], ports: Sequence[int]) -> list[socket.socket]:
    """What one message asks for; raises OSError."""
    if wanted[0] == "connect":
        return [connection(wanted[1], int(wanted[2]))]
    # First: with the routes and no listeners, less would work than without both.
    opened = listeners(*ports)
    make_everything_local()
    return opened


def serve_one(
    server: socket.socket, network: int, wanted: Sequence[str], ports: Sequence[int]
) -> None:
    """Answer with the sockets, or with the number of the reason and the reason."""
    try:
        enter(network)
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
    server: socket.socket, network: int, wanted: Sequence[str], ports: Sequence[int]
) -> None:
    """A process of its own for each namespace: there is no way back out of a user namespace."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            serve_one(server, network, wanted, ports)
            code = 0
        finally:
            os._exit(code)
    if os.waitpid(child, 0)[1] != 0:
        server.send(b"0 the program that opens its sockets failed")


def main(argv: Sequence[str]) -> int:
    descriptor, uid, gid, *ports = map(int, argv)
    server = socket.socket(fileno=descriptor)
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    room = array.array("i")
    while True:
        message, ancillary, _, _ = server.recvmsg(
            LONGEST_MESSAGE, socket.CMSG_LEN(room.itemsize), socket.MSG_CMSG_CLOEXEC
        )
        if not message:
            return 0  # the server is gone
        wanted = message.decode().split()
        if wanted[0] == "limit":
            limit(server, int(wanted[1]), wanted[2:])
            continue
        (network,) = array.array("i", ancillary[0][2])
        in_a_child(server, network, wanted, ports)
        os.close(network)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
