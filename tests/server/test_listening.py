import os
import socket
import subprocess
import sys

import pytest

from streamtrans.core import BadConfig
from streamtrans.server.listening import address, refuse_taken


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", "127.0.0.1:7"),
        ("localhost", "localhost:7"),
        ("::1", "[::1]:7"),
        ("[::1]", "[::1]:7"),
        ("::", "[::]:7"),
        ("fe80::1%lo", "[fe80::1%lo]:7"),
        ("unix:/tmp/s", "unix:/tmp/s"),
    ],
)
def test_addresses_of_every_kind(host, expected):
    assert address(host, 7) == expected


def test_a_taken_port_says_so():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(BadConfig, match=rf"can't listen on 127\.0\.0\.1:{port}: Address already in use"):
            refuse_taken("127.0.0.1", port)
    refuse_taken("127.0.0.1", port)


def test_an_address_of_another_machine_says_so():
    with pytest.raises(BadConfig, match=r"192\.0\.2\.1:0: Cannot assign requested address"):
        refuse_taken("192.0.2.1", 0)
    with pytest.raises(BadConfig, match="there is no such address"):
        refuse_taken("no such host", 0)


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_the_address_of_ipv6_is_listened_to_or_refused_by_its_reason():
    if has_ipv6():
        refuse_taken("::1", 0)
        refuse_taken("[::1]", 0)
    else:
        with pytest.raises(BadConfig, match=r"can't listen on \[::1\]:0: "):
            refuse_taken("::1", 0)


def test_a_taken_port_is_one_line(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        code = (
            "import asyncio, sys\nfrom streamtrans.core import BadConfig\n"
            "from streamtrans.server import ServerConfig, serve\n"
            "try: asyncio.run(serve(ServerConfig(port=int(sys.argv[1])), lambda: None))\n"
            "except BadConfig as error: print(f'error: {error}', file=sys.stderr)\n"
        )
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GRPC_")}
        done = subprocess.run(
            [sys.executable, "-c", code, port], capture_output=True, text=True, check=True, env=environment
        )
    assert done.stderr == f"error: can't listen on 127.0.0.1:{port}: Address already in use\n"
