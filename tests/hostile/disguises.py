"""What is no image at all, and what is two things at once."""

from __future__ import annotations

import bz2
import io
import lzma
import pickle
import struct
import tarfile
import zlib

import numpy as np

from hostile.archives import zipped
from hostile.jpegs import jpeg
from hostile.niftis import nifti
from hostile.pngs import MAGIC, whole_png
from hostile.shared import ANY, VOLUME, add, maker, noise, picture

HTML = b"<!doctype html><html><script>alert(1)</script></html>"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><script>alert(1)</script></svg>'
EICAR = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR-STANDARD-ANTIVIRUS-" + b"TEST-FILE!$H+H*"
LOL = b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]><l>&b;</l>'

NO_IMAGES: dict[str, bytes] = {
    "html": HTML,
    "html_with_a_mark": b"\xef\xbb\xbf" + HTML,
    "html_in_utf16": HTML.decode().encode("utf-16"),
    "svg": SVG,
    "svg_gz": zlib.compress(SVG, wbits=31),
    "xml_with_entities": LOL,
    "pdf": b"%PDF-1.7\n1 0 obj <</Type /Catalog /OpenAction <</S /JavaScript /JS (app.alert(1))>>>> endobj\n",
    "postscript": b"%!PS-Adobe-3.0\n(/etc/passwd) (r) file\n",
    "javascript": b"alert(document.cookie)\n" * 30,
    "php": b"<?php system($_GET['c']); ?>",
    "shell": b"#!/bin/sh\nrm -rf /\n",
    "elf": b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHI", 2, 62, 1) + noise(400),
    "windows_program": b"MZ\x90\0" + noise(400),
    "java_class": b"\xca\xfe\xba\xbe\0\0\0\x34" + noise(300),
    "webassembly": b"\0asm\1\0\0\0" + noise(100),
    "python_code": b"\x6f\x0d\x0d\x0a" + noise(200),
    "text": b"Patient: Jane Doe\n" * 10,
    "json": b'{"file": "/etc/passwd"}',
    "csv": b"=cmd|' /C calc'!A0,1,2\n" * 9,
    "eicar": EICAR,
    "gif": b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff!\xf9\x04\x01\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;",
    "webp": b"RIFF\x1a\0\0\0WEBPVP8L\x0d\0\0\0\x2f\0\0\0\x10\x07\x10\x11\x11\x88\x88\xfe\x07\0",
    "heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + noise(200),
    "ico": b"\0\0\1\0\1\0\x10\x10\0\0\1\0\x18\0" + noise(200),
    "photoshop": b"8BPS\0\1" + noise(200),
    "jpeg_2000": b"\x00\x00\x00\x0cjP  \r\n\x87\n" + noise(200),
    "jpeg_xl": b"\xff\x0a" + noise(200),
    "movie": b"\0\0\0\x20ftypisom\0\0\2\0isomiso2mp41" + noise(200),
    "wave": b"RIFF\x24\0\0\0WAVEfmt " + noise(200),
    "sqlite": b"SQLite format 3\0" + noise(200),
    "hdf5": b"\x89HDF\r\n\x1a\n" + noise(200),
    "netcdf": b"CDF\x01" + noise(200),
    "parquet": b"PAR1" + noise(200) + b"PAR1",
    "numpy": b"\x93NUMPY\x01\0v\0{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(128) + b"\n",
    "onnx": b"\x08\x07\x12\x07pytorch" + noise(300),
    "seven_zip": b"7z\xbc\xaf\x27\x1c\0\4" + noise(200),
    "rar": b"Rar!\x1a\x07\0" + noise(200),
    "xz": lzma.compress(b"x" * 999),
    "bzip2": bz2.compress(b"x" * 999),
    "zstd": b"\x28\xb5\x2f\xfd" + noise(200),
    "mgh": struct.pack(">7i", 1, 4, 4, 4, 1, 0, 0) + bytes(400),
    "analyze": b"\x5c\x01\0\0" + bytes(34) + b"r" + bytes(400),
    "noise": noise(4096),
    "noise_of_another_kind": noise(70_000, 1),
    "spaces": b" " * 500,
    "ones": b"\xff" * 2000,
}
for _name, _content in NO_IMAGES.items():
    add(_name, lambda content=_content: content, [415])
add("zeros", lambda: bytes(2000), [415, 422])
add("empty", lambda: b"", [400])
for _byte in (0, 10, 60, 0x89, 0xFF):
    add(f"one_byte_{_byte}", lambda byte=_byte: bytes([byte]), [415, 422])
for _name, _magic in (
    ("png", MAGIC),
    ("jpeg", b"\xff\xd8\xff"),
    ("tiff", b"II*\0"),
    ("big_tiff", b"MM\0+"),
    ("bmp", b"BM"),
    ("nrrd", b"NRRD0005\n"),
    ("gzip", b"\x1f\x8b\x08"),
    ("zip", b"PK\x03\x04"),
    ("mha", b"ObjectType = Image\nNDims = 3\n"),
):
    add(f"html_behind_the_signature_of_{_name}", lambda magic=_magic: magic + HTML)
    add(f"noise_behind_the_signature_of_{_name}", lambda magic=_magic: magic + noise(3000))
for _protocol in range(6):
    add(f"pickle_of_protocol_{_protocol}", lambda protocol=_protocol: pickle.dumps(_Harm(), protocol), [415])

# Whole images with something else behind or around them: only ever read as the image that they begin as.
add("png_and_zip", lambda: whole_png() + zipped(("../../escape", b"x")), [200])
add("png_and_html", lambda: whole_png() + HTML, [200])
add("png_twice", lambda: whole_png() + whole_png(), [200])
add("jpeg_and_zip", lambda: jpeg() + zipped(("x", b"x")), ANY)
add("jpeg_and_javascript", lambda: jpeg() + b"*/=alert(1);", ANY)
add("bmp_and_program", lambda: picture("BMP") + NO_IMAGES["elf"], ANY)
add("gif_and_javascript", lambda: b"GIF89a/*" + noise(50) + b"*/=1;alert(1)", [415])
add("pdf_and_zip", lambda: NO_IMAGES["pdf"] + zipped(("x", b"x")), [415])
add("html_and_png", lambda: HTML + whole_png(), [415])
add("nifti_and_zip", lambda: nifti() + zipped(("x", b"x")), ANY, VOLUME)


class _Harm:
    """A pickle that would run a command when it is opened."""

    def __reduce__(self) -> tuple[object, ...]:
        return eval, ("__import__('os').system('touch /tmp/medrail-was-here')",)


@maker(415)
def tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return buffer.getvalue()


@maker(415)
def npz_with_a_pickle() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, train_images=np.array([_Harm()], dtype=object), allow_pickle=True)
    return buffer.getvalue()


@maker(415)
def npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, train_images=np.zeros((4, 8, 8), np.uint8))
    return buffer.getvalue()
