"""Opens, in a sandbox's network namespace, the sockets that every address there leads to.

Usage: namespace.py FD UID GID PORT...

A program beside the server. Each message on FD brings a namespace; the answer brings the listeners
and the DNS socket. It runs on the host as the sandboxes' owner, who is root of every namespace they
have, so that nothing inside ever holds a capability: /etc/ld.so.preload is the sandbox's own, and
what it names runs in pid 1 before a line of the agent does.
"""

from __future__ import annotations

import array
import ctypes
import fcntl
import os
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
NAME_SERVER = ("127.0.0.53", 53)  # as resolv.conf of the template names it
BACKLOG = 512


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


def sockets(ports: Sequence[int]) -> list[socket.socket]:
    """A listener on each port of any address, and last the name server's; raises OSError."""
    found = [socket.socket(socket.AF_INET, socket.SOCK_STREAM) for _ in ports]
    for listener, port in zip(found, ports, strict=True):
        listener.bind(("", port))  # the namespace has the loopback device only
        listener.listen(BACKLOG)
    names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    names.bind(NAME_SERVER)
    return [*found, names]


def serve_one(server: socket.socket, network: int, ports: Sequence[int]) -> None:
    """Answer with the sockets, or with the reason why there are none."""
    try:
        enter(network)
        # First: with the routes and no listeners, less would work than without both.
        opened = sockets(ports)
        make_everything_local()
    except OSError as error:
        server.send(str(error.strerror or error).encode())
        return
    rights = array.array("i", [each.fileno() for each in opened])
    server.sendmsg([b"opened"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])


def in_a_child(server: socket.socket, network: int, ports: Sequence[int]) -> None:
    """A process of its own for each namespace: there is no way back out of a user namespace."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            serve_one(server, network, ports)
            code = 0
        finally:
            os._exit(code)
    if os.waitpid(child, 0)[1] != 0:
        server.send(b"the program that opens its sockets failed")


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
            16, socket.CMSG_LEN(room.itemsize), socket.MSG_CMSG_CLOEXEC
        )
        if not message:
            return 0  # the server is gone
        (network,) = array.array("i", ancillary[0][2])
        in_a_child(server, network, ports)
        os.close(network)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
