"""Make the pages of the guide in the program from the documents beside this file.

.venv/bin/python docs/make_guide.py

It reads the part of Markdown that the documents use and refuses all else, so that no page shows what was not meant.
Every word is escaped. A test compares the pages with the documents.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
DOCUMENTS = CHECKOUT / "docs"
TEMPLATES = CHECKOUT / "templates/cleanup/guide/pages"
STATIC = CHECKOUT / "static"
# The documents that the program shows; a link to another one is shown as its words.
PAGES = ("guide", "admin", "reasons", "words", "receipts", "mounts", "privacy")

_HEADING = re.compile(r"(#{1,3}) (.+)")
_ITEM = re.compile(r"( {0,3})(-|\d+\.) +(.*)")
_IMAGE = re.compile(r"!\[([^]]*)\]\(([^)]+)\)")
_INLINE = re.compile(
    r"`(?P<code>[^`]+)`"
    r"|!\[(?P<alt>[^]]*)\]\((?P<image>[^)]+)\)"
    r"|\[(?P<words>[^]]+)\]\((?P<link>[^)]+)\)"
    r"|\*\*(?P<strong>.+?)\*\*"
    r"|\*(?P<stress>[^*\s][^*]*)\*"
)


@dataclass
class Page:
    """The body of one page and the headings of its second rank: (anchor, title as HTML)."""

    title: str = ""
    body: list[str] = field(default_factory=list)
    contents: list[tuple[str, str]] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading too."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def render(text: str) -> Page:
    """Raises ValueError at what is not understood."""
    page = Page()
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        line = lines[at]
        if not line.strip():
            at += 1
        elif line.startswith("#"):
            _heading(page, line)
            at += 1
        elif line.startswith("```"):
            end = lines.index("```", at + 1)
            page.body.append(_code(lines[at + 1 : end]))
            at = end + 1
        elif line.startswith("    "):
            end = _until(lines, at, lambda each: bool(each.strip()) and not each.startswith("    "))
            page.body.append(_code([each[4:] for each in lines[at:end]]))
            at = end
        elif line.startswith("|"):
            end = _until(lines, at, lambda each: not each.startswith("|"))
            page.body += _table(lines[at:end])
            at = end
        elif _ITEM.match(line):
            at = _list(page, lines, at)
        else:
            end = _until(lines, at, _ends_paragraph)
            page.body.append(_paragraph(" ".join(lines[at:end])))
            at = end
    return page


def template_of(name: str, page: Page) -> str:
    """The template of one page, with its table of contents."""
    links = "\n".join(f'    <li><a href="#{anchor}">{title}</a></li>' for anchor, title in page.contents)
    contents = (
        f'<nav class="contents" aria-label="On this page">\n  <ul>\n{links}\n  </ul>\n</nav>\n' if page.contents else ""
    )
    body = "\n".join(page.body)
    return (
        f"{{% load static %}}{{# docs/make_guide.py makes this from docs/{name}.md #}}\n"
        f'{contents}<article class="card guide">\n<h1>{page.title}</h1>\n{body}\n</article>\n'
    )


def pages() -> Iterator[tuple[Path, str]]:
    """Each template and what it has to hold."""
    for name in PAGES:
        yield TEMPLATES / f"{name}.html", template_of(name, render((DOCUMENTS / f"{name}.md").read_text()))


def write() -> None:
    """Write every page anew."""
    TEMPLATES.mkdir(parents=True, exist_ok=True)
    for path, text in pages():
        path.write_text(text)


def _until(lines: list[str], begin: int, ends: Callable[[str], bool]) -> int:
    return next((at for at in range(begin + 1, len(lines)) if ends(lines[at])), len(lines))


def _ends_paragraph(line: str) -> bool:
    return not line.strip() or line.startswith(("#", "|", "```")) or bool(_ITEM.match(line))


def _heading(page: Page, line: str) -> None:
    match = _HEADING.fullmatch(line)
    if match is None:
        raise ValueError(f"this is no heading: {line}")
    rank, title = len(match[1]), _inline(match[2])
    if rank == 1:
        if page.title:
            raise ValueError(f"there is a second title: {line}")
        page.title = title
        return
    anchor = slug(match[2])
    if anchor in page.anchors:
        raise ValueError(f"two headings have one anchor: {line}")
    page.anchors.add(anchor)
    page.body.append(f'<h{rank} id="{anchor}">{title}</h{rank}>')
    if rank == 2:
        page.contents.append((anchor, title))


def _code(lines: list[str]) -> str:
    words = _escape("\n".join(lines).rstrip("\n"))
    return f'<pre tabindex="0"><code>{words}</code></pre>'


def _paragraph(text: str) -> str:
    pictures = bool(_IMAGE.search(text)) and not _IMAGE.sub("", text).strip()
    return f'<p class="pictures">{_inline(text)}</p>' if pictures else f"<p>{_inline(text)}</p>"


def _list(page: Page, lines: list[str], at: int) -> int:
    """One list without lists in it; the lines of an item stand under its first word."""
    kind = "ul" if lines[at].lstrip().startswith("-") else "ol"
    items: list[str] = []
    while at < len(lines):
        match = _ITEM.match(lines[at])
        if match is not None:
            if match[1]:
                raise ValueError(f"a list within a list: {lines[at]}")
            items.append(match[3])
        elif lines[at].startswith("  ") and lines[at].strip():
            items[-1] += f" {lines[at].strip()}"
        else:
            break
        at += 1
    page.body += [f"<{kind}>", *(f"<li>{_inline(item)}</li>" for item in items), f"</{kind}>"]
    return at


def _table(lines: list[str]) -> list[str]:
    head, rule, *rows = (_cells(line) for line in lines)
    if any(set(cell) - set("-: ") for cell in rule) or any(len(row) != len(head) for row in rows):
        raise ValueError(f"this is no table: {lines[0]}")
    titles = "".join(f'<th role="columnheader" scope="col">{_inline(cell)}</th>' for cell in head)
    found = ['<table role="table" class="stack">']
    if any(head):
        found.append(f'<thead role="rowgroup"><tr role="row">{titles}</tr></thead>')
    found.append('<tbody role="rowgroup">')
    for row in rows:
        cells = "".join(f'<td role="cell">{_inline(cell)}</td>' for cell in row)
        found.append(f'<tr role="row">{cells}</tr>')
    return [*found, "</tbody>", "</table>"]


def _cells(line: str) -> list[str]:
    cells = re.split(r"(?<!\\)\|", line.strip())
    return [cell.strip().replace("\\|", "|") for cell in cells[1:-1]]


def _inline(text: str) -> str:
    found, at = [], 0
    for match in _INLINE.finditer(text):
        found += [_escape(text[at : match.start()]), _marked(match)]
        at = match.end()
    return "".join([*found, _escape(text[at:])])


def _marked(match: re.Match[str]) -> str:
    if (code := match["code"]) is not None:
        return f"<code>{_escape(code)}</code>"
    if (image := match["image"]) is not None:
        return _image(match["alt"], image)
    if (link := match["link"]) is not None:
        return _link(_inline(match["words"]), link)
    if (strong := match["strong"]) is not None:
        return f"<strong>{_inline(strong)}</strong>"
    return f"<em>{_inline(match['stress'])}</em>"


def _link(words: str, target: str) -> str:
    document, _sign, anchor = target.partition("#")
    behind = f"#{anchor}" if anchor else ""
    if not document:
        return f'<a href="{_escape(behind)}">{words}</a>'
    name = document.removesuffix(".md")
    if name not in PAGES:
        if ":" in document or not (DOCUMENTS / document).exists():
            raise ValueError(f"the guide cannot lead to {target}")
        return f'<span class="file">{words}</span>'
    address = "{% url 'guide' %}" if name == "guide" else f"{{% url 'guide-page' '{name}' %}}"
    return f'<a href="{address}{_escape(behind)}">{words}</a>'


def _image(words: str, target: str) -> str:
    """With its size, so that a heading stands where a link leads before the pictures are there."""
    path = (DOCUMENTS / target).resolve()
    data = path.read_bytes()
    width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
    source = path.relative_to(STATIC).as_posix()
    size = f'width="{width}" height="{height}" loading="lazy"'
    return f'<img src="{{% static \'{source}\' %}}" alt="{_escape(words)}" {size}>'


def _escape(text: str) -> str:
    """For HTML, and for a template, which would read a brace as its own."""
    return escape(text).replace("{", "&#123;").replace("}", "&#125;")


if __name__ == "__main__":
    write()
