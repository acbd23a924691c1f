"""Runs a command as on a kernel that lacks system calls:

    lacking.py landlock,seccomp COMMAND [WORD…]

A filter of its own answers ENOSYS, and descendants inherit it.
"""

import ctypes
import os
import struct
import sys

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
ENOSYS = 38
LANDLOCK = 444  # landlock_create_ruleset, on every architecture
SECCOMP = {"x86_64": 317, "aarch64": 277}
PRCTL = {"x86_64": 157, "aarch64": 167}
LOAD, JUMP_EQUAL, RETURN = 0x20, 0x15, 0x06  # classic BPF, linux/filter.h
NUMBER, FIRST_ARGUMENT = 0, 16  # offsets in struct seccomp_data


def instruction(code, value, if_true=0, if_false=0):
    return struct.pack("HBBI", code, if_true, if_false, value)


def program(lacks):
    machine = os.uname().machine
    denied = [LANDLOCK] if "landlock" in lacks else []
    if "seccomp" in lacks:
        denied.append(SECCOMP[machine])
    text = [instruction(LOAD, NUMBER)]
    for number in denied:
        text += [instruction(JUMP_EQUAL, number, 0, 1), instruction(RETURN, ERRNO | ENOSYS)]
    if "seccomp" in lacks:
        text += [instruction(JUMP_EQUAL, PRCTL[machine], 0, 3), instruction(LOAD, FIRST_ARGUMENT),
                 instruction(JUMP_EQUAL, PR_SET_SECCOMP, 0, 1), instruction(RETURN, ERRNO | ENOSYS)]
    return b"".join([*text, instruction(RETURN, ALLOW)])


def take(lacks):
    libc = ctypes.CDLL(None, use_errno=True)
    text = program(lacks)
    room = ctypes.create_string_buffer(text)
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(text) // 8, ctypes.addressof(room)))
    zero = ctypes.c_ulong(0)
    if (libc.prctl(PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), zero, zero, zero) != 0
            or libc.prctl(PR_SET_SECCOMP, ctypes.c_ulong(SECCOMP_MODE_FILTER), header, zero, zero) != 0):
        raise OSError(ctypes.get_errno(), "no filter can be set")


if __name__ == "__main__":
    # Where the kernel has no filters, it lacks what it is to lack.
    try:
        take(sys.argv[1].split(","))
    except OSError as error:
        print(f"lacking.py: {error}", file=sys.stderr)
    os.execvp(sys.argv[2], sys.argv[2:])
