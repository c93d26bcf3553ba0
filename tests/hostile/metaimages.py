"""MetaImage (.mha)."""

from __future__ import annotations

import zlib

from hostile.shared import ANY, VOLUME, add, add_cuts, add_flips, noise

GOOD = {
    "ObjectType": "Image",
    "NDims": "3",
    "BinaryData": "True",
    "BinaryDataByteOrderMSB": "False",
    "CompressedData": "False",
    "TransformMatrix": "1 0 0 0 1 0 0 0 1",
    "Offset": "0 0 0",
    "ElementSpacing": "1 1.5 2",
    "DimSize": "12 14 10",
    "ElementType": "MET_UCHAR",
    "ElementDataFile": "LOCAL",
}
VOXELS = bytes(index % 251 for index in range(12 * 14 * 10))


def metaimage(voxels: bytes = VOXELS, **changes: str | None) -> bytes:
    """The good volume with other fields; None leaves one out. The data file stays the last one."""
    fields = GOOD | changes
    fields["ElementDataFile"] = fields.pop("ElementDataFile")
    return "".join(f"{name} = {value}\n" for name, value in fields.items() if value is not None).encode() + voxels


def bad(field: str, *values: str | None, statuses: object = ANY) -> None:
    for number, value in enumerate(values):
        add(f"mha_{field}_{number}", lambda value=value: metaimage(**{field: value}), statuses, VOLUME)  # type: ignore[arg-type]


bad("NDims", "0", "-3", "100", "abc", "3.5", "2")
bad("DimSize", None, "0 0 0", "-12 14 10", "99999 99999 99999", "12 14", "a b c", "9" * 400)
bad("ElementType", None, "MET_STRING", "MET_DOUBLE", "MET_UCHAR_MATRIX", "__import__('os')", statuses=[413, 415, 422])
bad("ElementSpacing", "nan nan nan", "0 0 0", "-1 1 1", "inf 1 1", "1e308 1e308 1e308", "1 1", "a b c")
bad(
    "TransformMatrix",
    "0 0 0 0 0 0 0 0 0",
    "nan 0 0 0 1 0 0 0 1",
    "1 0 0 1 0 0 1 0 0",
    "1 2",
    "1e200 0 0 0 1e200 0 0 0 1",
)
bad("Offset", "nan nan nan", "inf 0 0", "x")
bad("HeaderSize", "-1", "99999999", "-99", "abc")
bad("ElementNumberOfChannels", "0", "-1", "1000000000", "abc")
bad("CompressedData", "True")
bad("BinaryData", "False")
bad("ObjectType", "Mesh", "Scene")

for _number, _name in enumerate(
    ("/etc/passwd", "../../x.raw", "LIST", "slice%03d.raw 1 9 1", "http://127.0.0.1/x", "LOCAL.raw", "/dev/zero")
):
    add(f"mha_data_elsewhere_{_number}", lambda name=_name: metaimage(ElementDataFile=name), [415], VOLUME)


def _compressed(content: bytes, size: str | None = None) -> bytes:
    return metaimage(content, CompressedData="True", CompressedDataSize=size or str(len(content)))


add("mha_bomb", lambda: _compressed(zlib.compress(bytes(40_000_000))), ANY, VOLUME)
add("mha_deflated_noise", lambda: _compressed(noise(500)), [422], VOLUME)
add("mha_deflated_and_cut", lambda: _compressed(zlib.compress(VOXELS)[:-20]), [422], VOLUME)
for _size in ("0", "-1", "99999999999", "abc"):
    add(f"mha_deflated_size_{_size}", lambda size=_size: _compressed(zlib.compress(VOXELS), size), ANY, VOLUME)
add("mha_of_endless_comments", lambda: metaimage(Comment="x" * 2_000_000), ANY, VOLUME)
add("mha_of_no_data_file", lambda: metaimage(ElementDataFile=None), model=VOLUME)

add_cuts("mha", metaimage, [20, 100, 200, 0.4, 0.95], model=VOLUME)
add_flips("mha", metaimage, 8, 260, model=VOLUME)
