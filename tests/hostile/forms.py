"""Requests whose form is wrong, or right in an odd way; the file in it, where there is one, is good."""

from __future__ import annotations

from dataclasses import dataclass, field

from hostile.pngs import whole_png

TYPE = "multipart/form-data; boundary=b"
PNG = whole_png()
NAMED = b'Content-Disposition: form-data; name="file"; filename="x.png"\r\n'


@dataclass(frozen=True)
class Form:
    """A body with its content type and the statuses that are right."""

    body: bytes
    statuses: tuple[int, ...]
    content_type: str = TYPE
    headers: dict[str, str] = field(default_factory=dict)


def part(headers: bytes = NAMED, content: bytes = PNG) -> bytes:
    return b"--b\r\n" + headers + b"\r\n" + content + b"\r\n"


END = b"--b--\r\n"
WHOLE = part() + END


def _named(disposition: str) -> bytes:
    return part(f"Content-Disposition: {disposition}\r\n".encode("latin-1")) + END


FORMS: dict[str, Form] = {
    "no_body": Form(b"", (400,)),
    "only_the_end": Form(END, (400,)),
    "no_end": Form(part(), (400,)),
    "half_an_end": Form(part() + b"--b-", (400,)),
    "no_line_after_the_boundary": Form(b"--b" + NAMED + b"\r\n" + PNG + END, (400,)),
    "another_boundary": Form(WHOLE.replace(b"--b", b"--c"), (400,)),
    "boundary_in_capitals": Form(WHOLE.replace(b"--b", b"--B"), (400,)),
    "lines_of_unix": Form(WHOLE.replace(b"\r\n", b"\n"), (200, 400, 422)),
    "header_without_colon": Form(part(b"Content-Disposition form-data\r\n") + END, (400,)),
    "header_of_binary": Form(part(b"\x00\x01\xff: \xfe\r\n" + NAMED) + END, (400,)),
    "header_folded": Form(part(NAMED.replace(b"; name", b";\r\n name")) + END, (200, 400)),
    "no_headers": Form(b"--b\r\n\r\n" + PNG + b"\r\n" + END, (400,)),
    "no_disposition": Form(part(b"Content-Type: image/png\r\n") + END, (400,)),
    "disposition_twice": Form(part(NAMED + NAMED) + END, (200, 400)),
    "disposition_of_another_kind": Form(_named('attachment; name="file"'), (200, 400)),
    "very_long_header": Form(part(b"X: " + b"y" * 1_000_000 + b"\r\n" + NAMED) + END, (400, 413)),
    "very_many_headers": Form(part(b"X: y\r\n" * 100_000 + NAMED) + END, (400, 413)),
    "very_many_parts": Form(part(content=b"") * 10_000 + END, (400,)),
    "very_many_other_parts": Form(part(b'Content-Disposition: form-data; name="x"\r\n', b"") * 10_000 + END, (400,)),
    "file_twice": Form(part() + part() + END, (400,)),
    "unknown_field": Form(_named('form-data; name="picture"'), (400,)),
    "field_that_leads_out": Form(_named('form-data; name="../../escape"'), (400,)),
    "field_with_a_zero": Form(_named('form-data; name="file\0"'), (400,)),
    "field_of_no_name": Form(_named('form-data; name=""'), (400,)),
    "field_in_capitals": Form(_named('form-data; name="FILE"'), (400,)),
    "field_of_umlauts": Form(_named('form-data; name="f\xefle"'), (400,)),
    "field_encoded": Form(_named("form-data; name*=utf-8''file"), (200, 400)),
    "field_without_quotes": Form(_named("form-data; name=file"), (200, 400)),
    "field_with_a_quote_too_many": Form(_named('form-data; name="file""'), (200, 400)),
    "name_that_leads_out": Form(_named('form-data; name="file"; filename="../../../etc/cron.d/x"'), (200,)),
    "name_of_windows": Form(_named('form-data; name="file"; filename="C:\\\\x\\\\..\\\\y"'), (200,)),
    "name_of_64_kb": Form(_named(f'form-data; name="file"; filename="{"n" * 65_536}"'), (200, 400)),
    "name_with_a_zero": Form(_named('form-data; name="file"; filename="x\0.html"'), (200, 400)),
    "type_that_lies": Form(part(NAMED + b"Content-Type: text/html\r\n") + END, (200,)),
    "base64_said": Form(part(NAMED + b"Content-Transfer-Encoding: base64\r\n") + END, (200, 400, 415)),
    "length_of_the_part_that_lies": Form(part(NAMED + b"Content-Length: 1\r\n") + END, (200,)),
    "a_form_in_the_form": Form(
        part(NAMED + b"Content-Type: multipart/mixed; boundary=c\r\n", b"--c\r\n\r\n--c--") + END, (415,)
    ),
    "much_before_it": Form(b"x" * 500_000 + b"\r\n" + WHOLE, (200, 400)),
    "much_behind_it": Form(WHOLE + b"x" * 3_000_000, (200, 400, 413)),
    "boundary_within_the_file": Form(part(content=PNG[:40] + b"\r\n--b\r\n" + PNG[40:]) + END, (400,)),
    "end_within_the_file": Form(part(content=PNG[:40] + b"\r\n--b--\r\n" + PNG[40:]) + END, (400, 422)),
    "empty_file": Form(part(content=b"") + END, (400,)),
    "boundary_of_400": Form(WHOLE, (400,), "multipart/form-data; boundary=" + "b" * 400),
    "boundary_of_nothing": Form(WHOLE, (400,), "multipart/form-data; boundary="),
    "boundary_of_a_space": Form(WHOLE, (400,), 'multipart/form-data; boundary=" "'),
    "boundary_in_quotes": Form(WHOLE, (200,), 'multipart/form-data; boundary="b"'),
    "boundary_twice": Form(WHOLE, (200, 400), "multipart/form-data; boundary=b; boundary=c"),
    "boundary_missing": Form(WHOLE, (400,), "multipart/form-data"),
    "mixed": Form(WHOLE, (415,), "multipart/mixed; boundary=b"),
    "url_encoded": Form(b"file=x", (415,), "application/x-www-form-urlencoded"),
    "json_said": Form(b"{", (415,), "application/json"),
    "no_type": Form(WHOLE, (415,), ""),
    "type_of_noise": Form(WHOLE, (415,), ";;;=,,"),
    "file_of_returns": Form(part(content=b"\r" * 3_000_000) + END, (415,)),
    "file_of_half_boundaries": Form(part(content=b"\r\n--" * 700_000) + END, (415,)),
    "type_without_end": Form(WHOLE, (400, 415), 'multipart/form-data; boundary="b'),
    "gzip_said": Form(WHOLE, (200, 400, 415), TYPE, {"Content-Encoding": "gzip"}),
    "headers_of_60_kb": Form(WHOLE, (431,), TYPE, {"X-Large": "y" * 60_000}),
    "headers_of_1000": Form(WHOLE, (431,), TYPE, {f"X-Many-{number}": "y" * 40 for number in range(1000)}),
    "range_asked_for": Form(WHOLE, (200,), TYPE, {"Range": "bytes=0-18446744073709551615"}),
    "method_overridden": Form(WHOLE, (200,), TYPE, {"X-HTTP-Method-Override": "DELETE"}),
    "accept_of_noise": Form(WHOLE, (200, 406), TYPE, {"Accept": ";q=,,/;q=nan"}),
    "request_id_of_a_name": Form(WHOLE, (200,), TYPE, {"X-Request-ID": "Doe^Jane"}),
    "forwarded_for_a_script": Form(WHOLE, (200,), TYPE, {"X-Forwarded-For": "<script>", "X-Forwarded-Host": "evil"}),
}
