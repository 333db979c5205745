#!/usr/bin/env python3
"""Serve one GGUF model over HTTP with llama.cpp's own server, from the Python package `xllamacpp`.

ARW starts this as a runtime's program where no native `llama-server` is at hand:

    arw runtime add NAME --adapter llama_cpp --model MODEL -- \\
        PYTHON xllamacpp_server.py --model {model} --socket {socket}

The key that clients must send (`Authorization: Bearer KEY`) is the first line of standard input, so that it stands in
no command line and in no environment.

Exit codes: 0 stopped by SIGTERM or SIGINT; 1 the model could not be served (llama.cpp says why on stderr);
2 wrong usage, or no key; 127 the package `xllamacpp` cannot be imported.
A SIGTERM while the model is still loading ends the process at once, by that signal.
"""

import argparse
import errno
import os
import signal
import socket
import stat
import sys

FAILED, USAGE, NO_LIBRARY = 1, 2, 127
KEY_BYTES_MAX = 4096
# The kernel's sockaddr_un holds 108 bytes, the last of them a zero.
SOCKET_PATH_BYTES_MAX = 107


def main() -> int:
    options = parse(sys.argv[1:])
    # Whoever sees only a signal handler that Python runs later would wait for the whole load: the library holds the
    # interpreter's lock meanwhile. The default action ends us at once.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    key = sys.stdin.readline(KEY_BYTES_MAX).strip()
    if not key:
        return fail(USAGE, "no key: write the key that clients must send as the first line of standard input")
    try:
        import xllamacpp
    except ImportError as error:
        return fail(
            NO_LIBRARY,
            f"cannot import xllamacpp with {sys.executable}: {error}. "
            "Use the Python that `./dev engine` prints, or install the package for this one",
        )
    if options.socket:
        refusal = clear_socket(options.socket)
        if refusal:
            return fail(FAILED, refusal)
        # The socket is for this user only.
        os.umask(0o077)

    try:
        server = xllamacpp.Server(parameters(xllamacpp, options, key))
    except (RuntimeError, ValueError, OSError) as error:
        where = options.socket or f"{options.host}:{options.port}"
        return fail(FAILED, f"cannot serve {options.model} on {where}: {error} llama.cpp's reason is above")

    stopped = stop_signals()
    address = f"unix:{options.socket}" if options.socket else server.listening_address
    print(f"xllamacpp_server: listening on {address}", flush=True)
    number = stopped()
    print(f"xllamacpp_server: {signal.Signals(number).name}: stopping", flush=True)
    if options.socket:
        remove(options.socket)
    # Unwinding would wait for the answer in progress. Nothing is left to save, so the kernel does the rest.
    sys.stderr.flush()
    os._exit(0)


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Serve one GGUF model over HTTP with llama.cpp. The key is the first line of standard input.",
        allow_abbrev=False,
    )
    parser.add_argument("--model", required=True, metavar="PATH", help="the GGUF file")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=number(1, 65535), metavar="N", help="TCP port to listen on")
    parser.add_argument("--socket", metavar="PATH", help="Unix socket to listen on, in place of host and port")
    parser.add_argument(
        "--ctx-size", type=number(0, 1 << 24), default=2048, metavar="N",
        help="context in tokens, shared by all slots; 0 takes the model's own (default: %(default)s)",
    )
    parser.add_argument(
        "--threads", type=number(1, 1024), default=1, metavar="N",
        # Its threads spin while they wait: more than the idle cores makes it slower, not faster.
        help="threads that compute; no more than idle cores (default: %(default)s)",
    )
    parser.add_argument(
        "--parallel", type=number(1, 256), default=1, metavar="N",
        help="answers computed at the same time (default: %(default)s)",
    )
    parser.add_argument("--embedding", action="store_true", help="serve /v1/embeddings (mean over the tokens)")
    options = parser.parse_args(arguments)
    if (options.port is None) == (options.socket is None):
        parser.error("give either --port N or --socket PATH")
    if options.socket and not options.socket.endswith(".sock"):
        # llama.cpp knows a Unix socket only by this ending.
        parser.error(f"--socket {options.socket}: the name must end in .sock")
    if options.socket and len(os.fsencode(options.socket)) > SOCKET_PATH_BYTES_MAX:
        parser.error(f"--socket {options.socket}: longer than the {SOCKET_PATH_BYTES_MAX} bytes that the kernel takes")
    return options


def number(least: int, most: int):
    """An argument type: a whole number from `least` to `most`."""

    def convert(text: str) -> int:
        value = int(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{value} is not from {least} to {most}")
        return value

    convert.__name__ = "whole number"
    return convert


def parameters(xllamacpp, options: argparse.Namespace, key: str):
    """What llama.cpp's server takes."""
    params = xllamacpp.CommonParams()
    params.model.path = options.model
    params.hostnames = [options.socket or options.host]
    if options.port:
        params.port = options.port
    params.api_keys = [key]
    params.n_ctx = options.ctx_size
    params.n_parallel = options.parallel
    params.cpuparams.n_threads = options.threads
    params.endpoint_metrics = True
    # A model server has no business on the network, and ARW has its own pages.
    params.offline = True
    params.ui = False
    if options.embedding:
        params.embedding = True
        # Without pooling llama.cpp refuses /v1/embeddings for models that were made for text.
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    return params


def clear_socket(path: str) -> str | None:
    """Removes a socket that an earlier server left behind. Returns why it must not, if so."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"cannot look at {path}: {error.strerror}"
    if not stat.S_ISSOCK(mode):
        return f"{path} exists and is not a socket: choose another path, or remove the file"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        answer = probe.connect_ex(path)
    if answer == 0:
        return f"{path} is in use: another server answers on it"
    if answer not in (errno.ECONNREFUSED, errno.ENOENT):
        return f"cannot tell whether {path} is in use: {os.strerror(answer)}"
    return remove(path)


def remove(path: str) -> str | None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        return f"cannot remove {path}: {error.strerror}"
    return None


def stop_signals():
    """From now on SIGTERM and SIGINT are taken. Returns a function that waits for the first and gives its number."""
    # The number comes through a pipe because a signal may hit any of llama.cpp's threads, or come just before the wait.
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for taken in (signal.SIGTERM, signal.SIGINT):
        signal.signal(taken, lambda *_: None)
    return lambda: os.read(reader, 1)[0]


def fail(code: int, reason: str) -> int:
    print(f"xllamacpp_server: {reason}", file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
