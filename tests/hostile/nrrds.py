"""NRRD."""

from __future__ import annotations

import gzip

from hostile.shared import ANY, VOLUME, add, add_cuts, add_flips

GOOD = {
    "type": "uchar",
    "dimension": "3",
    "sizes": "12 14 10",
    "space": "right-anterior-superior",
    "space directions": "(1,0,0) (0,1.5,0) (0,0,2)",
    "space origin": "(0,0,0)",
    "encoding": "raw",
}
VOXELS = bytes(index % 251 for index in range(12 * 14 * 10))


def nrrd(voxels: bytes = VOXELS, **changes: str | None) -> bytes:
    """The good volume with other fields; None leaves one out; `_` stands for a space."""
    fields = GOOD | {name.replace("_", " "): value for name, value in changes.items()}
    lines = "".join(f"{name}: {value}\n" for name, value in fields.items() if value is not None)
    return f"NRRD0004\n{lines}\n".encode() + voxels


def bad(field: str, *values: str | None, statuses: object = ANY) -> None:
    for number, value in enumerate(values):
        add(
            f"nrrd_{field.replace(' ', '_')}_{number}",
            lambda value=value: nrrd(**{field: value}),
            statuses,  # type: ignore[arg-type]
            VOLUME,
        )


bad("type", None, "block", "double", "quaternion", "uchar uchar", statuses=[413, 415, 422])
bad("dimension", None, "0", "-3", "17", "3.5", "abc", "99999999999")
bad("sizes", None, "0 0 0", "-12 14 10", "99999 99999 99999", "12 14", "12 14 10 10", "a b c", "1e3 2 2", "9" * 500)
bad("space", "left-posterior-inferior-anterior", "scanner-xyz-time", "moon")
bad(
    "space_directions",
    "none none none",
    "(nan,0,0) (0,1,0) (0,0,1)",
    "(0,0,0) (0,0,0) (0,0,0)",
    "(1e308,0,0) (0,1e308,0) (0,0,1)",
)
bad("space_directions_of", "(1,0,0) (1,0,0) (1,0,0)")
bad("space_origin", "(inf,0,0)", "(1,2)", "here")
bad("encoding", None, "gzip", "bzip2", "hex", "text", "zip", "txt; rm -rf /")
bad("byte_skip", "-1", "99999999", "-99", "abc")
bad("line_skip", "1", "99999999", "-5")
bad("spacings", "nan nan nan", "0 0 0", "-1 -1 -1", "1 2")

for _number, _name in enumerate(
    ("../../../../etc/passwd", "/dev/zero", "LIST", "x%03d.raw 1 9 1", "http://127.0.0.1/x")
):
    add(f"nrrd_data_elsewhere_{_number}", lambda name=_name: nrrd(data_file=name), [415], VOLUME)
    add(f"nrrd_datafile_elsewhere_{_number}", lambda name=_name: nrrd(datafile=name), [415], VOLUME)

add("nrrd_magic_only", lambda: b"NRRD0004", model=VOLUME)
add("nrrd_without_fields", lambda: b"NRRD0004\n\n" + VOXELS, model=VOLUME)
add("nrrd_without_an_end_of_its_header", lambda: b"NRRD0004\n" + b"# comment\n" * 400_000, [422], VOLUME)
add("nrrd_of_one_endless_line", lambda: b"NRRD0004\ncontent: " + b"x" * 3_000_000, [422], VOLUME)
add("nrrd_of_version_99", lambda: nrrd().replace(b"NRRD0004", b"NRRD0099"), ANY, VOLUME)
add("nrrd_gzip_bomb", lambda: nrrd(gzip.compress(bytes(40_000_000)), encoding="gzip"), ANY, VOLUME)
add("nrrd_gzip_noise", lambda: nrrd(gzip.compress(VOXELS)[:-30], encoding="gzip"), [422], VOLUME)
add("nrrd_key_of_a_thousand", lambda: nrrd(**{f"key{index}:": "=v" for index in range(1000)}), ANY, VOLUME)

add_cuts("nrrd", nrrd, [6, 40, 120, 0.3, 0.95], model=VOLUME)
add_flips("nrrd", nrrd, 8, 180, model=VOLUME)
