# Runs a program for which some system calls fail: refuse.py ERRNO NUMBER[,NUMBER…] PROGRAM ARGUMENT…, with a seccomp filter,
# as container runtimes have them. It changes nothing outside of that program.
import ctypes
import errno
import os
import struct
import sys

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
LOAD_WORD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
RETURN_ALLOW, RETURN_ERRNO = 0x7FFF0000, 0x00050000

answer = RETURN_ERRNO | getattr(errno, sys.argv[1])
numbers = [int(number) for number in sys.argv[2].split(",")]
# Load the number; for each that is refused, jump to the end; else allow.
steps = [(LOAD_WORD, 0, 0, 0)]
steps += [(JUMP_IF_EQUAL, len(numbers) - place, 0, number) for place, number in enumerate(numbers)]
steps += [(RETURN, 0, 0, RETURN_ALLOW), (RETURN, 0, 0, answer)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code)))
libc = ctypes.CDLL(None, use_errno=True)
for arguments in ((PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(program), 0, 0)):
    if libc.prctl(*(ctypes.c_ulong(argument) for argument in arguments)) != 0:
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
os.execvp(sys.argv[3], sys.argv[3:])
