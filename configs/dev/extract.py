"""extract.py ARCHIVE NAME SHA256 TARGET: takes one file out of a zip archive, checks it, and only then puts it in place."""

import hashlib
import os
import sys
import zipfile

CHUNK_BYTES = 1 << 20


def main() -> None:
    archive, name, expected, target = sys.argv[1:]
    partial = target + ".partial"
    digest = hashlib.sha256()
    with zipfile.ZipFile(archive) as wheel:
        members = [member for member in wheel.namelist() if member.rsplit("/", 1)[-1] == name]
        if len(members) != 1:
            sys.exit(f"{archive} holds {len(members)} files named {name}, not one")
        with wheel.open(members[0]) as source, open(partial, "wb") as sink:
            while chunk := source.read(CHUNK_BYTES):
                digest.update(chunk)
                sink.write(chunk)
            sink.flush()
            os.fsync(sink.fileno())
    if digest.hexdigest() != expected:
        os.unlink(partial)
        sys.exit(f"{name} has sha256 {digest.hexdigest()}, not {expected}")
    os.rename(partial, target)


main()
