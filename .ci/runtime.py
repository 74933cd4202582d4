"""Packs what the page of `gfnet export --page` needs of onnxruntime-web; `make runtime` calls it.

    python .ci/runtime.py ONNXRUNTIME-WEB.tgz

This is what `npm pack onnxruntime-web@VERSION` writes. The notices of what is in it come with the Python package. Only
the build for plain WebAssembly is taken. It is packed by xz, a third smaller than by gzip, which browsers unpack: when
Python writes a page, it changes one into the other.
"""

import io
import sys
import tarfile
from pathlib import Path

import onnxruntime

from gfnet_pl.export.page import BUNDLE, NOTICES, RUNTIME, WASM


def main(package: Path) -> None:
    with tarfile.open(package) as source:
        files = {name: source.extractfile(f"package/dist/{name}").read() for name in (BUNDLE, WASM)}
    files[NOTICES] = (Path(onnxruntime.__file__).parent / NOTICES).read_bytes()
    with tarfile.open(RUNTIME, "w:xz", preset=9) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)  # without a time or an owner: the same files are the same archive
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
