"""Elements of HTML and SVG. Whatever is not an element is text, and is escaped: that is the only way in."""

from __future__ import annotations

import html

VOID_ELEMENTS = frozenset({"meta", "link", "img", "br", "wbr"})


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def tag(name: str, /, *children: object, **attributes: object) -> Html:
    """An element.

    Children that are None are left out, as are attributes that are None or False. Attributes are written with
    hyphens for underscores, and without one at the end.

    >>> tag("p", "a < b", tag("br"), class_="note")
    '<p class="note">a &lt; b<br></p>'
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in VOID_ELEMENTS:
        return Html(f"<{name}{given}>")
    return Html(f"<{name}{given}>{join(*children)}</{name}>")


def join(*children: object) -> Html:
    """Several children in a row; lists and generators of them too."""
    parts = []
    for child in children:
        if isinstance(child, Html):
            parts.append(str(child))
        elif isinstance(child, (list, tuple)):
            parts.append(str(join(*child)))
        elif child is not None:
            parts.append(escape(child))
    return Html("".join(parts))


def escape(value: object) -> str:
    r"""Text of unknown origin, without what HTML or UTF-8 cannot hold.

    >>> escaped('<script>"\x00')
    '&lt;script&gt;&quot;'
    """
    text = str(value).encode("utf-8", "replace").decode("utf-8")
    kept = "".join(c for c in text if c in "\t\n" or (ord(c) >= 32 and not 127 <= ord(c) < 160))
    return html.escape(kept)


def table(caption: str, head: list[object], rows: list[list[object]], *, css: str = "") -> Html:
    """A table in a box that it may scroll in; the first cell of each row is its heading."""
    body = [
        tag("tr", tag("th", row[0], scope="row"), [tag("td", cell) for cell in row[1:]])
        for row in rows
    ]
    whole = tag(
        "table",
        tag("caption", caption),
        tag("thead", tag("tr", [tag("th", cell, scope="col") for cell in head])),
        tag("tbody", body),
        class_=css or None,
    )
    # A box that scrolls must be reachable with the keyboard.
    return tag("div", whole, class_="box", tabindex="0", role="region", aria_label=caption)


def definitions(facts: list[tuple[str, object]], *, wide: tuple[str, ...] = ()) -> Html:
    """Names with their values; those named in ``wide`` get more room."""
    rows = [
        tag("div", tag("dt", name), tag("dd", value), class_="wide" if name in wide else None)
        for name, value in facts
    ]
    return tag("dl", rows)


def code(text: object) -> Html:
    """A name or a path, which may be broken anywhere."""
    return tag("code", text)
