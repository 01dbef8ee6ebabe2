"""Runs one command and tells its wall time, CPU time, peak memory and status: our own /usr/bin/time.

    python3 -I -S launch.py DESCRIPTOR COMMAND [ARGUMENT...]

The figures go to the descriptor (seconds, seconds, KiB, status). Linux counts the memory of whoever starts a program
into that program's ru_maxrss, since a child begins as its parent's copy; started from the benchmark itself, every peer
would seem to need 40 MiB. So a child is started from here, a Python with nothing imported: what it needs itself, about
8 MiB, is the least that can be measured, and it is told as a fifth figure.
"""

import os
import sys
import time

figures_to, command = int(sys.argv[1]), sys.argv[2:]
begin = time.perf_counter()
child = os.posix_spawn(command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_CLOSE, figures_to)])
_, status, usage = os.wait4(child, 0)
wall = time.perf_counter() - begin

# The floor is known only now, from a child that needs next to nothing.
nothing = os.posix_spawn("/bin/true", ["true"], {})
floor = os.wait4(nothing, 0)[2].ru_maxrss
figures = (wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss, os.waitstatus_to_exitcode(status), floor)
os.write(figures_to, " ".join(map(str, figures)).encode())
