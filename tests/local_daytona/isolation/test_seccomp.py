"""The filter as the kernel would run it, interpreted here for both architectures."""

from __future__ import annotations

import errno
import re
import struct

import pytest

from local_daytona.isolation import seccomp

DENIED_BY_NAME = {
    "x86_64": {
        "mount": 165,
        "setns": 308,
        "unshare": 272,
        "keyctl": 250,
        "bpf": 321,
        "io_uring_setup": 425,
        "iopl": 172,
    },
    "aarch64": {
        "mount": 40,
        "setns": 268,
        "unshare": 97,
        "keyctl": 219,
        "bpf": 280,
        "io_uring_setup": 425,
        "kexec_load": 104,
    },
}
HARMLESS = {
    "x86_64": {"read": 0, "execve": 59, "openat": 257},
    "aarch64": {"read": 63, "execve": 221, "openat": 56},
}
FAMILIES = [
    (1, 0, True),
    (2, 0, True),
    (10, 0, True),
    (16, 0, True),
    (16, 12, False),
    (17, 0, False),
    (38, 0, False),
    (40, 0, False),
]
ABSENT = {
    "x86_64": {"shmget": 29, "semget": 64, "msgget": 68, "memfd_secret": 447, "io_setup": 206},
    "aarch64": {"shmget": 194, "semget": 190, "msgget": 186, "memfd_secret": 447, "io_setup": 0},
}


def run(machine: str, number: int, *args: int, audit: int | None = None) -> int:
    """What the filter answers to one call: a small interpreter of classic BPF."""
    arch = seccomp.ARCHES[machine]
    data = struct.pack(
        "<IIQ6Q", number, arch.audit if audit is None else audit, 0, *(list(args) + [0] * 6)[:6]
    )
    code = seccomp.program(machine)
    place, word = 0, 0
    while True:
        operation, true, false, value = struct.unpack_from("<HBBI", code, place * 8)
        place += 1
        if operation == seccomp.LOAD:
            (word,) = struct.unpack_from("<I", data, value)
        elif operation == seccomp.RETURN:
            return int(value)
        else:
            taken = {
                seccomp.JUMP_EQ: word == value,
                seccomp.JUMP_GE: word >= value,
                seccomp.JUMP_SET: bool(word & value),
            }[operation]
            place += true if taken else false


def refused(code: int) -> int:
    return seccomp.ERRNO | code


@pytest.mark.parametrize(
    ("machine", "name"),
    [(machine, name) for machine, calls in DENIED_BY_NAME.items() for name in calls],
)
def test_dangerous_calls_are_refused(machine: str, name: str) -> None:
    """The numbers differ between architectures; a wrong one would leave a door open."""
    assert run(machine, DENIED_BY_NAME[machine][name]) == refused(errno.EPERM)


@pytest.mark.parametrize(
    ("machine", "name"), [(machine, name) for machine, calls in HARMLESS.items() for name in calls]
)
def test_ordinary_calls_pass(machine: str, name: str) -> None:
    """A filter that refused these would run nothing."""
    assert run(machine, HARMLESS[machine][name]) == seccomp.ALLOW


@pytest.mark.parametrize("machine", seccomp.ARCHES)
def test_a_foreign_architecture_is_killed(machine: str) -> None:
    """32-bit calls have other numbers, so none may be judged by this table."""
    assert run(machine, 0, audit=0x40000003) == seccomp.KILL


def test_x32_calls_do_not_exist() -> None:
    """They would pass a table of 64-bit numbers."""
    assert run("x86_64", seccomp.X32_BIT | 165) == refused(errno.ENOSYS)


@pytest.mark.parametrize("machine", seccomp.ARCHES)
def test_clone_may_fork_but_not_make_namespaces(machine: str) -> None:
    """clone3 hides its flags in memory, so libc is sent back to clone."""
    arch = seccomp.ARCHES[machine]

    assert run(machine, arch.clone, 17) == seccomp.ALLOW
    assert run(machine, arch.clone, 0x10000000) == refused(errno.EPERM)
    assert run(machine, arch.clone3) == refused(errno.ENOSYS)


@pytest.mark.parametrize(
    ("machine", "name"), [(machine, name) for machine, calls in ABSENT.items() for name in calls]
)
def test_what_no_limit_counts_is_not_there(machine: str, name: str) -> None:
    """Programs take ENOSYS for a kernel that was built without it, and go another way."""
    assert run(machine, ABSENT[machine][name]) == refused(errno.ENOSYS)


@pytest.mark.parametrize("machine", seccomp.ARCHES)
@pytest.mark.parametrize("number", [470, 471, 500, 512, 547, 1000, 0x3FFFFFFF])
def test_calls_that_are_newer_than_the_table_do_not_exist(machine: str, number: int) -> None:
    """A list of what is denied says nothing of what a later kernel brings."""
    assert run(machine, number) == refused(errno.ENOSYS)


@pytest.mark.parametrize("machine", seccomp.ARCHES)
@pytest.mark.parametrize("family", [2, 10])
@pytest.mark.parametrize(
    ("protocol", "allowed"),
    [
        (0, True),
        (6, True),
        (17, True),
        (1, True),
        (132, False),
        (33, False),
        (256, False),
        (262, False),
    ],
)
def test_rare_protocols_do_not_make_the_host_load_their_modules(
    machine: str, family: int, protocol: int, allowed: bool
) -> None:
    """SCTP, DCCP, SMC, MPTCP come as an ordinary family; libraries take the refusal and use TCP."""
    answer = run(machine, seccomp.ARCHES[machine].socket, family, 1, protocol)

    assert answer == (seccomp.ALLOW if allowed else refused(errno.EPROTONOSUPPORT))


@pytest.mark.parametrize("machine", seccomp.ARCHES)
def test_socket_pairs_are_unix_sockets(machine: str) -> None:
    """TIPC has pairs too, and a module to load."""
    number = seccomp.ARCHES[machine].socketpair

    assert run(machine, number, 1, 1) == seccomp.ALLOW
    assert run(machine, number, 30, 1) == refused(errno.EAFNOSUPPORT)


@pytest.mark.parametrize("machine", seccomp.ARCHES)
@pytest.mark.parametrize(("family", "protocol", "allowed"), FAMILIES)
def test_sockets_are_of_four_kinds(machine: str, family: int, protocol: int, allowed: bool) -> None:
    """vsock and packet sockets are not confined by a network namespace."""
    answer = run(machine, seccomp.ARCHES[machine].socket, family, 1, protocol)

    assert answer == (seccomp.ALLOW if allowed else refused(errno.EAFNOSUPPORT))


@pytest.mark.parametrize("machine", seccomp.ARCHES)
def test_terminal_injection_is_refused_whatever_the_high_bits_say(machine: str) -> None:
    """The kernel reads 32 bits of the request; CVE-2019-10063 was a filter that compared 64."""
    ioctl = seccomp.ARCHES[machine].ioctl

    assert run(machine, ioctl, 0, seccomp.TIOCSTI | 1 << 32) == refused(errno.EPERM)
    assert run(machine, ioctl, 0, 0x5401) == seccomp.ALLOW


@pytest.mark.parametrize("machine", seccomp.ARCHES)
def test_no_ioctl_takes_space_without_writing_it(machine: str) -> None:
    """The older ways to do what fallocate does."""
    ioctl = seccomp.ARCHES[machine].ioctl

    assert 0x4030582A in seccomp.PREALLOCATIONS  # FS_IOC_RESVSP64 of include/linux/falloc.h
    for number in seccomp.PREALLOCATIONS:
        assert run(machine, ioctl, 3, number | 1 << 32) == refused(errno.EOPNOTSUPP)


@pytest.mark.parametrize("machine", seccomp.ARCHES)
def test_no_socket_takes_whole_packets(machine: str) -> None:
    """SOCK_PACKET is a packet socket in the family of ordinary ones."""
    for kind in seccomp.PACKET_TYPES:
        answer = run(machine, seccomp.ARCHES[machine].socket, seccomp.AF_INET, kind, 0)
        assert answer == refused(errno.EPERM)


def test_an_unknown_machine_has_no_filter() -> None:
    """Better no sandbox than one with the wrong table."""
    with pytest.raises(KeyError):
        seccomp.program("riscv64")


HEADERS = {
    "x86_64": (0, "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": (1, "/usr/include/asm-generic/unistd.h"),
}


@pytest.mark.parametrize("machine", HEADERS)
def test_the_tables_are_the_kernels(machine: str) -> None:
    """Every number that the kernel headers know under a denied name is the one in the table."""
    column, path = HEADERS[machine]
    try:
        with open(path) as header:
            text = header.read()
    except OSError:
        pytest.skip(f"no {path} here")
    known = {
        name: int(number)
        for name, number in re.findall(r"#define __NR3?2?6?4?_?(\w+)\s+(\d+)", text)
    }
    table = {
        name: numbers[column] for name, numbers in {**seccomp._COMMON, **seccomp._ABSENT}.items()
    }

    compared = [name for name in table if name in known]
    assert len(compared) > 40
    assert {name: table[name] for name in compared} == {name: known[name] for name in compared}
