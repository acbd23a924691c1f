"""multipart/form-data as bytes, for well-formed uploads and for ill-formed ones built by hand."""

BOUNDARY = "coffer-test-boundary-7MA4YWxkTrZu0gW"


def quote(name):
    """A file name inside quotes: only a quote is escaped (browsers write it as %22 instead)."""
    return name.replace('"', '\\"')


def part(headers, content):
    """One part without its delimiter: header lines and content."""
    lines = headers if isinstance(headers, (list, tuple)) else [headers]
    encoded = [line if isinstance(line, bytes) else line.encode() for line in lines]
    return b"".join(line + b"\r\n" for line in encoded) + b"\r\n" + content


def file_part(content=b"content", name="file.bin", field="file", mime="application/octet-stream"):
    headers = [f'Content-Disposition: form-data; name="{field}"; filename="{quote(name)}"']
    if mime:
        headers.append(f"Content-Type: {mime}")
    return part(headers, content)


def text_part(field, value):
    value = value if isinstance(value, bytes) else value.encode()
    return part(f'Content-Disposition: form-data; name="{field}"', value)


def join(parts, boundary=BOUNDARY):
    """The whole body: every part with its delimiter, and the closing one."""
    boundary = boundary if isinstance(boundary, bytes) else boundary.encode()
    body = b"".join(b"--" + boundary + b"\r\n" + each + b"\r\n" for each in parts)
    return body + b"--" + boundary + b"--\r\n"


def content_type(boundary=BOUNDARY):
    return f"multipart/form-data; boundary={boundary}"


def encode_multipart(fields, content, name, mime=None, boundary=BOUNDARY):
    """(body, Content-Type) of an upload: text fields in their order, then the file."""
    parts = [text_part(field, value) for field, value in fields]
    parts.append(file_part(content, name, mime=mime or "application/octet-stream"))
    return join(parts, boundary), content_type(boundary)
