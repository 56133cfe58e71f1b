"""The system call filter that every process of a sandbox inherits, as BPF for x86_64 and aarch64.

Numbers: arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h of Linux.
"""

from __future__ import annotations

import errno
import platform
import struct
from dataclasses import dataclass

LOAD, JUMP_EQ, JUMP_GE, JUMP_SET, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
# Offsets in struct seccomp_data, low words (little endian).
NUMBER, ARCH, ARG0, ARG1, ARG2 = 0, 4, 16, 24, 32

CLONE_NAMESPACES = 0x7E020080  # NEWTIME, NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
F_SETPIPE_SZ = 1031  # all pipes of the host's user share what they have beyond the usual size
TIOCSTI, TIOCLINUX = 0x5412, 0x541C
TIOCSETD = 0x5423  # a terminal's line discipline: the host would load its module
# Older ways to take a file's space without writing it, which fallocate's refusal leaves open
# (include/linux/falloc.h; those of 10 to 37 are XFS's): ALLOCSP, FREESP, RESVSP, UNRESVSP, also for
# 64 bits, and ZERO_RANGE. Writes of a number: the size of struct space_resv, `X`, the number.
PREALLOCATIONS = tuple(0x40305800 | number for number in (10, 11, 36, 37, 40, 41, 42, 43, 57))
# Packets of the interface itself, by a type of socket; with the flags that a type may carry.
SOCK_PACKET = 10
PACKET_TYPES = tuple(SOCK_PACKET | flags for flags in (0, 0x800, 0x80000, 0x80800))
AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, NETLINK_ROUTE = 1, 2, 10, 16, 0
# Any, ICMP, TCP, UDP, ICMPv6: others (SCTP, DCCP, MPTCP) would make the host load their modules.
PROTOCOLS = (0, 1, 6, 17, 58)
X32_BIT = 0x40000000
# The first number that the kernel's table did not have when ours was made (Linux 6.18).
FIRST_UNKNOWN = 470

_COMMON = {
    "setns": (308, 268),
    "unshare": (272, 97),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "mount_setattr": (442, 442),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "settimeofday": (164, 170),
    "adjtimex": (159, 171),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "syslog": (103, 116),
    "acct": (163, 89),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "reboot": (169, 142),
    "fanotify_init": (300, 262),
    "lookup_dcookie": (212, 18),
    "nfsservctl": (180, 42),
    "vhangup": (153, 58),
    "move_pages": (279, 239),
    "migrate_pages": (256, 238),
    "mbind": (237, 235),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "listmount": (458, 458),
    "statmount": (457, 457),
    "lsm_set_self_attr": (460, 460),
    "open_tree_attr": (467, 467),
}
# Answered as by a kernel or a file system without them, which programs know. What they take is in
# nobody's resident memory (System V objects, secret memory, pages given to a pipe), is counted for
# the whole machine (aio), or fills a disk before the watchdog looks (fallocate).
_ABSENT = {
    "shmget": (29, 194, errno.ENOSYS),
    "semget": (64, 190, errno.ENOSYS),
    "msgget": (68, 186, errno.ENOSYS),
    "memfd_secret": (447, 447, errno.ENOSYS),
    "io_setup": (206, 0, errno.ENOSYS),
    "fallocate": (285, 47, errno.EOPNOTSUPP),
    "vmsplice": (278, 75, errno.ENOSYS),
}
_X86_ONLY = {
    "iopl": 172,
    "ioperm": 173,
    "modify_ldt": 154,
    "uselib": 134,
    "ustat": 136,
    "sysfs": 139,
    "_sysctl": 156,
}


@dataclass(frozen=True)
class Arch:
    """One architecture's audit id and system call numbers."""

    audit: int
    denied: tuple[int, ...]
    absent: tuple[tuple[int, int], ...]
    clone: int
    clone3: int
    ioctl: int
    fcntl: int
    socket: int
    socketpair: int
    x32: bool = False


ARCHES = {
    "x86_64": Arch(
        audit=0xC000003E,
        denied=tuple(sorted([x86 for x86, _ in _COMMON.values()] + list(_X86_ONLY.values()))),
        absent=tuple((x86, code) for x86, _, code in _ABSENT.values()),
        clone=56,
        clone3=435,
        ioctl=16,
        fcntl=72,
        socket=41,
        socketpair=53,
        x32=True,
    ),
    "aarch64": Arch(
        audit=0xC00000B7,
        denied=tuple(sorted(arm for _, arm in _COMMON.values())),
        absent=tuple((arm, code) for _, arm, code in _ABSENT.values()),
        clone=220,
        clone3=435,
        ioctl=29,
        fcntl=25,
        socket=198,
        socketpair=199,
    ),
}


def instruction(code: int, true: int, false: int, value: int) -> bytes:
    return struct.pack("<HBBI", code, true, false, value)


def load(offset: int) -> bytes:
    return instruction(LOAD, 0, 0, offset)


def answer(value: int) -> bytes:
    return instruction(RETURN, 0, 0, value)


def refuse(number: int, code: int) -> bytes:
    """If the loaded word is `number`, the call fails with `code`."""
    return instruction(JUMP_EQ, 0, 1, number) + answer(ERRNO | code)


def allow(value: int) -> bytes:
    """If the loaded word is `value`, the call is allowed."""
    return instruction(JUMP_EQ, 0, 1, value) + answer(ALLOW)


def when(number: int, body: bytes) -> bytes:
    """Run `body`, which must return, only for the system call `number` (still loaded)."""
    return instruction(JUMP_EQ, 0, len(body) // 8, number) + body


def _clone_body() -> bytes:
    denied = answer(ERRNO | errno.EPERM)
    return load(ARG0) + instruction(JUMP_SET, 0, 1, CLONE_NAMESPACES) + denied + answer(ALLOW)


def _ioctl_body() -> bytes:
    denied = b"".join(refuse(number, errno.EPERM) for number in (TIOCSTI, TIOCLINUX, TIOCSETD))
    absent = b"".join(refuse(number, errno.EOPNOTSUPP) for number in PREALLOCATIONS)
    return load(ARG1) + denied + absent + answer(ALLOW)


def _fcntl_body() -> bytes:
    return load(ARG1) + refuse(F_SETPIPE_SZ, errno.EPERM) + answer(ALLOW)


def _socket_body() -> bytes:
    """UNIX sockets, IPv4 and IPv6 of ordinary protocols, and netlink for addresses and routes."""
    ordinary = b"".join(allow(protocol) for protocol in PROTOCOLS)
    packets = load(ARG1) + b"".join(refuse(kind, errno.EPERM) for kind in PACKET_TYPES)
    internet = packets + load(ARG2) + ordinary + answer(ERRNO | errno.EPROTONOSUPPORT)
    route_only = load(ARG2) + allow(NETLINK_ROUTE) + answer(ERRNO | errno.EAFNOSUPPORT)
    families = when(AF_INET, internet) + when(AF_INET6, internet) + when(AF_NETLINK, route_only)
    return load(ARG0) + allow(AF_UNIX) + families + answer(ERRNO | errno.EAFNOSUPPORT)


def _socketpair_body() -> bytes:
    return load(ARG0) + allow(AF_UNIX) + answer(ERRNO | errno.EAFNOSUPPORT)


def program(machine: str | None = None) -> bytes:
    """The filter for `machine` (default: this one), as bubblewrap's --seccomp reads it.

    Raises KeyError for an unknown machine.

    A wrong architecture is killed; x32, clone3 and what is newer than this table answer ENOSYS, so
    that libc falls back to what is older (clone, whose flags can be read).
    """
    arch = ARCHES[machine or platform.machine()]
    head = load(ARCH) + instruction(JUMP_EQ, 1, 0, arch.audit) + answer(KILL) + load(NUMBER)
    if arch.x32:
        head += instruction(JUMP_GE, 0, 1, X32_BIT) + answer(ERRNO | errno.ENOSYS)
    rules = instruction(JUMP_GE, 0, 1, FIRST_UNKNOWN) + answer(ERRNO | errno.ENOSYS)
    rules += refuse(arch.clone3, errno.ENOSYS)
    rules += b"".join(refuse(number, code) for number, code in arch.absent)
    rules += b"".join(refuse(number, errno.EPERM) for number in arch.denied)
    rules += when(arch.clone, _clone_body()) + when(arch.ioctl, _ioctl_body())
    rules += when(arch.fcntl, _fcntl_body())
    rules += when(arch.socket, _socket_body()) + when(arch.socketpair, _socketpair_body())
    return head + rules + answer(ALLOW)
