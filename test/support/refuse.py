# Runs a program for which some system calls are answered without being made, by a seccomp filter, as container runtimes do it:
#   refuse.py ANSWER CALL[,CALL…] PROGRAM ARGUMENT…
# ANSWER is the name of an errno, or OK. CALL is a number; with :PLACE=VALUE only with that argument (PLACE from 0, 32 bits).
# It changes nothing outside of that program.
import ctypes
import errno
import os
import struct
import sys

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
LOAD_WORD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
RETURN_ALLOW, RETURN_ERRNO = 0x7FFF0000, 0x00050000
# Where struct seccomp_data has them; both architectures are little-endian.
NUMBER, ARGUMENTS = 0, 16


def steps_for(call, answer):
    """Falls through to the answer if the call is this one, else jumps behind it."""
    number, _, argument = call.partition(":")
    if not argument:
        return [(LOAD_WORD, 0, 0, NUMBER), (JUMP_IF_EQUAL, 0, 1, int(number)), (RETURN, 0, 0, answer)]
    place, _, value = argument.partition("=")
    return [
        (LOAD_WORD, 0, 0, NUMBER),
        (JUMP_IF_EQUAL, 0, 3, int(number)),
        (LOAD_WORD, 0, 0, ARGUMENTS + 8 * int(place)),
        (JUMP_IF_EQUAL, 0, 1, int(value)),
        (RETURN, 0, 0, answer),
    ]


answer = RETURN_ERRNO | (0 if sys.argv[1] == "OK" else getattr(errno, sys.argv[1]))
steps = [step for call in sys.argv[2].split(",") for step in steps_for(call, answer)]
steps.append((RETURN, 0, 0, RETURN_ALLOW))
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code)))
libc = ctypes.CDLL(None, use_errno=True)
for arguments in ((PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(program), 0, 0)):
    if libc.prctl(*(ctypes.c_ulong(argument) for argument in arguments)) != 0:
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
os.execvp(sys.argv[3], sys.argv[3:])
