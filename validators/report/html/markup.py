"""Builds HTML and SVG elements. All other text is escaped: this module is the only source of markup."""

from __future__ import annotations

import html

VOID_ELEMENTS = frozenset({"meta", "link", "img", "br", "wbr"})


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def tag(name: str, /, *children: object, **attributes: object) -> Html:
    """Returns an element.

    Children that are None are omitted, as are attributes that are None or False. Underscores in names of attributes become
    hyphens; one at the end is dropped.

    >>> tag("p", "a < b", tag("br"), class_="note")
    '<p class="note">a &lt; b<br></p>'
    """
    attribute_text = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in VOID_ELEMENTS:
        return Html(f"<{name}{attribute_text}>")
    return Html(f"<{name}{attribute_text}>{join(*children)}</{name}>")


def document(title: str, policy: str, stylesheet: str, *body: object, extra: object = None) -> str:
    """Returns a whole page that needs no network.

    Args:
        title: Its title.
        policy: Its Content-Security-Policy: the page contains texts of unknown origin.
        stylesheet: Its CSS.
        body: Children of its body.
        extra: Further elements of its head.
    """
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="generator", content="equipoise"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        extra,
        tag("title", title),
        tag("style", Html(stylesheet)),
    )
    return "<!doctype html>\n" + tag("html", head, tag("body", *body), lang="en") + "\n"


def join(*children: object) -> Html:
    """Concatenates children; they may be lists or tuples too."""
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
    r"""Escapes text of unknown origin; removes characters that HTML or UTF-8 does not allow.

    >>> escape('<script>"\x00')
    '&lt;script&gt;&quot;'
    """
    text = str(value).encode("utf-8", "replace").decode("utf-8")
    allowed = "".join(c for c in text if c in "\t\n" or (ord(c) >= 32 and not 127 <= ord(c) < 160))
    return html.escape(allowed)


def table(caption: str, head: list[object], rows: list[list[object]], *, css: str = "") -> Html:
    """Returns a table in a scrollable box; the first cell of each row is its heading."""
    body = [
        tag("tr", tag("th", row[0], scope="row"), [tag("td", cell) for cell in row[1:]])
        for row in rows
    ]
    element = tag(
        "table",
        tag("caption", caption),
        tag("thead", tag("tr", [tag("th", cell, scope="col") for cell in head])),
        tag("tbody", body),
        class_=css or None,
    )
    # tabindex makes a scrollable box reachable with the keyboard.
    return tag("div", element, class_="box", tabindex="0", role="region", aria_label=caption)


def definitions(facts: list[tuple[str, object]], *, wide: tuple[str, ...] = ()) -> Html:
    """Returns a list of names and values; those in ``wide`` get more space."""
    rows = [
        tag("div", tag("dt", name), tag("dd", value), class_="wide" if name in wide else None)
        for name, value in facts
    ]
    return tag("dl", rows)


def code(text: object) -> Html:
    """Returns a name or a path, which may be broken anywhere."""
    return tag("code", text)
