"""Loads the program, then forks for every line it reads: a JSON list of standard input's path and the arguments.

It answers with exit status, standard output and standard error. Its arguments are the folder that holds the package,
and the port of the name server that is asked instead of that of resolv.conf(5).
"""

import json
import os
import sys
from types import ModuleType
from typing import Any

sys.path.insert(0, sys.argv[1])

import muawrap.submission.deliver  # the program loads it late; here it is there before the fork
import muawrap.submission.discovery  # noqa: F401 -- and this, where a host is found by DNS
from muawrap import extras
from muawrap.sendmail import main
from muawrap.submission import lookup

PORT = int(sys.argv[2])  # a call has other arguments


def resolver(dns: ModuleType) -> Any:
    made = dns.Resolver(configure=False)
    made.nameservers, made.port = ["127.0.0.1"], PORT
    return made


lookup.resolver = resolver
extras.load("dns.resolver", "the matrix")


def call(stdin: str, argv: list[str]) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of one call."""
    files = [os.open(stdin, os.O_RDONLY), os.memfd_create("out"), os.memfd_create("err")]
    child = os.fork()
    if child == 0:
        try:
            for number, file in enumerate(files):
                os.dup2(file, number)
            sys.argv = argv
            main()
        finally:
            os._exit(70)  # neither 0 nor 1: the program does not come back
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    out, err = (os.pread(file, 1 << 20, 0).decode("latin-1") for file in files[1:])
    for file in files:
        os.close(file)
    return status, out, err


for line in sys.stdin:
    print(json.dumps(call(*json.loads(line))), flush=True)
