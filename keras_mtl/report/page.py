"""A self-contained HTML page without scripts or requests, in a light and a dark version."""

import html
from collections.abc import Sequence

from keras_mtl.figures import charts
from keras_mtl.report.panels import Panel, columns_of, single_panel

# Length of a name that a column heading keeps on one line.
_SHORT = 16


def escape(text: object) -> str:
    """Text for a page."""
    return html.escape(str(text), quote=True)


def breakable(label: str) -> str:
    """Returns the HTML of a name; a long one may be broken between its parts."""
    if len(label) <= _SHORT:
        return f'<span class="short">{escape(label)}</span>'
    return escape(label).replace("_", "_<wbr>").replace("=", "=<wbr>")


def page(title: str, subtitle: str, body: str, refresh: int = 0) -> str:
    """Returns the whole page.

    Args:
        title: plain text.
        subtitle: HTML.
        body: HTML.
        refresh: seconds after which a browser loads the page again; 0 never does.
    """
    again = f'<meta http-equiv="refresh" content="{refresh}">\n' if refresh else ""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'{again}<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>{_style()}</style>\n</head>\n<body>\n<main>\n"
        f"<header><h1>{escape(title)}</h1>\n<p>{subtitle}</p></header>\n{body}\n"
        "</main>\n</body>\n</html>\n"
    )


def section(title: str, *parts: str, note: str = "") -> str:
    """Returns a section with a headline; empty if it has no content.

    Args:
        title: plain text.
        *parts: HTML.
        note: HTML under the headline.
    """
    content = "".join(parts)
    if not content:
        return ""
    shown = f'<p class="note">{note}</p>' if note else ""
    return f"<section><h2>{escape(title)}</h2>{shown}{content}</section>\n"


def table(
    header: Sequence[str], rows: Sequence[Sequence[str]], numbers: bool = True, last: bool = False
) -> str:
    """Returns a table; on a narrow screen each row becomes a block with a line for each cell.

    Args:
        header: HTML of the column headings.
        rows: HTML of the cells; the first cell of a row is its heading.
        numbers: whether all columns except the first are numbers.
        last: whether the last row is a summary.
    """
    head = "".join(f'<th scope="col">{cell}</th>' for cell in header)
    body = []
    for place, row in enumerate(rows):
        cells = f'<th scope="row">{row[0]}</th>' + "".join(
            f'<td><span class="label">{label}</span><span class="value">{cell}</span></td>'
            if cell
            else "<td></td>"
            for label, cell in zip(header[1:], row[1:], strict=True)
        )
        kind = ' class="sum"' if last and place == len(rows) - 1 else ""
        body.append(f"<tr{kind}>{cells}</tr>")
    kind = ' class="numbers"' if numbers else ""
    return (
        f'<div class="scroll"><table{kind}><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def legend(labels: Sequence[str]) -> str:
    """Returns the names of the groups with their colors."""
    items = "".join(
        f"<li>{swatch(place)}{escape(label)}</li>" for place, label in enumerate(labels)
    )
    return f'<ul class="legend">{items}</ul>'


def swatch(place: int) -> str:
    """Returns the mark of a group, in its color and its shape in charts."""
    shapes = {
        "o": '<circle cx="6" cy="6" r="4.5"/>',
        "s": '<rect x="2" y="2" width="8" height="8"/>',
        "^": '<path d="M6 1 11 10.5 1 10.5Z"/>',
        "D": '<path d="M6 .8 11.2 6 6 11.2.8 6Z"/>',
        "v": '<path d="M6 11 11 1.5 1 1.5Z"/>',
        "P": '<path d="M4 1H8V4H11V8H8V11H4V8H1V4H4Z"/>',
        "X": '<path d="M3 1 6 4 9 1 11 3 8 6 11 9 9 11 6 8 3 11 1 9 4 6 1 3Z"/>',
        "<": '<path d="M1 6 10.5 1V11Z"/>',
        ">": '<path d="M11 6 1.5 1V11Z"/>',
        "*": '<path d="M6 .5 7.5 4.4 11.5 4.6 8.4 7.2 9.4 11.2 6 9 2.6 11.2 3.6 7.2.5 4.6Z"/>',
    }
    shape = shapes[charts.MARKERS[place % len(charts.MARKERS)]]
    color = f"var(--series-{place % len(charts.COLORS)})"
    return f'<svg class="mark" viewBox="0 0 12 12" aria-hidden="true" fill="{color}">{shape}</svg>'


def panels(items: Sequence[Panel], name: str) -> str:
    """Returns charts side by side; charts wider than a phone also have a narrow version.

    Args:
        items: the charts.
        name: name that is unique on the page.
    """
    if not items:
        return ""
    columns = columns_of(items)
    parts = []
    for place, panel in enumerate(items):
        svg = charts.to_svg(single_panel(panel, columns), f"{name}-{place}", panel.title)
        if columns < 3:
            small = charts.to_svg(
                single_panel(panel, columns, True), f"{name}-{place}-s", panel.title
            )
            svg = f'<div class="screen">{svg}</div><div class="telephone">{small}</div>'
        parts.append(f"<figure><figcaption>{escape(panel.title)}</figcaption>{svg}</figure>")
    return f'<div class="panels columns-{columns}">{"".join(parts)}</div>'


def warning(title: str, lines: Sequence[str], notes: Sequence[str] = ()) -> str:
    """Returns a warning box for the top of the page; empty without lines.

    Args:
        title: plain text.
        lines: plain text, one line for each reason.
        notes: less important lines, plain text.
    """
    noted = "".join(f'<p class="note">{escape(line)}</p>' for line in notes)
    if not lines:
        return f'<section class="unknown">{noted}</section>\n' if noted else ""
    items = "".join(f"<li>{_with_code(line)}</li>" for line in lines)
    return (
        f'<section class="warning" role="alert"><h2>⚠ {escape(title)}</h2>'
        f'<ul class="plain">{items}</ul>{noted}</section>\n'
    )


def _with_code(text: str) -> str:
    """Returns the HTML of plain text, with backticks as code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{p}</code>" if i % 2 else p for i, p in enumerate(parts))


def _style() -> str:
    def series(colors: Sequence[str]) -> str:
        return "".join(f"--series-{i}:{color};" for i, color in enumerate(colors))

    light = (
        f"--ink:{charts.INK};--muted:{charts.MUTED};--grid:{charts.GRID};--paper:#fff;--page:#f6f6f4;"
        f"--edge:#e3e3df;--good:#0a7d4f;--bad:#b3400a;--on-dark:#fff;--on-light:#141414;--nothing:#eee;"
        f"{series(charts.COLORS)}"
    )
    dark = (
        "--ink:#e8e8e6;--muted:#a3a3a0;--grid:#3a3c40;--paper:#1c1e21;--page:#131416;"
        f"--edge:#303338;--good:#4fcf9b;--bad:#f0925a;--on-dark:#101214;--on-light:#101214;--nothing:#2a2c30;"
        f"{series(charts.DARK_COLORS)}"
    )
    return f":root{{{light}}}@media(prefers-color-scheme:dark){{:root{{{dark}}}}}{_RULES}"


_RULES = """
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main{max-width:1180px;margin:0 auto;padding:2rem 1.25rem 4rem}
header{margin:0 0 1.5rem}
h1{font-size:1.7rem;line-height:1.2;margin:0 0 .3rem;letter-spacing:-.01em}
header p{color:var(--muted);margin:0;max-width:70ch}
h2{font-size:1.1rem;margin:0 0 .5rem}
section{background:var(--paper);border:1px solid var(--edge);border-radius:10px;
padding:1.1rem 1.25rem 1.25rem;margin:0 0 1.1rem}
.note{color:var(--muted);font-size:.87rem;margin:0 0 .8rem;max-width:85ch}
.signatures{margin:.8rem 0 0;max-width:none}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(11rem,1fr));gap:.8rem;
margin:0 0 1.1rem}
.tile{background:var(--paper);border:1px solid var(--edge);border-radius:10px;padding:.8rem 1rem}
.tile b{display:block;font-size:1.45rem;font-weight:600;line-height:1.25}
.tile b small{font-size:.95rem;font-weight:400;color:var(--muted)}
.tile>span{color:var(--muted);font-size:.82rem;display:block;overflow-wrap:anywhere}
.scroll{overflow-x:auto;margin:0 -.25rem;padding:0 .25rem}
table{border-collapse:collapse;font-size:.9rem;min-width:100%}
th,td{padding:.34rem .6rem;text-align:left;border-bottom:1px solid var(--edge);
vertical-align:baseline}
thead th{font-weight:600;font-size:.82rem;line-height:1.3;vertical-align:bottom;
border-bottom:1px solid var(--muted)}
tbody th{font-weight:500;white-space:nowrap;position:sticky;left:0;background:var(--paper)}
table.numbers td,table.numbers thead th:not(:first-child){text-align:right;
font-variant-numeric:tabular-nums;white-space:nowrap}
table.numbers thead th:nth-child(n){white-space:normal;min-width:5.2em;max-width:12em}
table.numbers thead th:nth-child(-n+2){min-width:0}
tr.sum th,tr.sum td{border-top:1px solid var(--muted);border-bottom:0}
tr.sum th{font-weight:700}
td .pm{color:var(--muted);font-weight:400;font-size:.86em}
td .best{font-weight:700}
td .label{display:none}
.warning{border-color:var(--bad);border-left-width:5px}
.warning h2{color:var(--bad)}
.warning .note,.unknown .note{margin:.5rem 0 0}
.unknown{padding:.7rem 1.25rem}
.unknown .note{margin:0}
.samples dt{font-size:.82rem;color:var(--muted)}
.samples dd{margin:0;overflow-wrap:anywhere}
.samples dl{margin:0 0 .8rem;padding:0 0 .7rem;border-bottom:1px solid var(--edge);display:grid;
grid-template-columns:minmax(8rem,max-content) 1fr;gap:.05rem 1rem;align-items:baseline}
.short{white-space:nowrap}
.samples dl:last-child{border:0;margin:0;padding:0}
td .sign{font-size:.8em;display:block;line-height:1.1;min-height:1.1em}
td .up{color:var(--good)}
td .down{color:var(--bad)}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:.25rem 1.1rem;padding:0;margin:0 0 .8rem;
font-size:.87rem}
.mark{width:.75rem;height:.75rem;margin-right:.4rem;vertical-align:-.06rem}
thead .mark{margin-right:.3rem}
.panels{display:grid;gap:1rem 1.4rem}
.columns-2{grid-template-columns:repeat(auto-fit,minmax(min(100%,27rem),1fr))}
.columns-3{grid-template-columns:repeat(auto-fit,minmax(min(100%,19rem),1fr))}
figure{margin:0;min-width:0}
.attention{margin:.2rem 0 1rem}
.telephone{display:none}
figcaption{font-size:.87rem;font-weight:600;margin:0 0 .15rem;overflow-wrap:anywhere}
figure svg{width:100%;height:auto;display:block}
figure svg text{font-family:inherit}
h3{font-size:.95rem;margin:1rem 0 .4rem}
footer{color:var(--muted);font-size:.82rem}
details{margin:.8rem 0 0}
summary{cursor:pointer;color:var(--muted);font-size:.9rem}
details>*:not(summary){margin-top:.6rem}
code{font-size:.86em;overflow-wrap:anywhere}
ul.plain{margin:.2rem 0 0;padding-left:1.1rem;font-size:.9rem}
@media(max-width:640px){main{padding:1.1rem .7rem 3rem}
section{padding:.9rem .8rem 1rem}
h1{font-size:1.35rem}
.screen{display:none}
.telephone{display:block}
thead{display:none}
table,tbody,tr,th,td{display:block}
tr{border-bottom:1px solid var(--muted);padding:.45rem 0}
tr:last-child{border:0}
th,td,tr.sum th,tr.sum td{border:0;padding:.1rem 0}
tbody th{white-space:normal;overflow-wrap:anywhere;font-weight:700;position:static}
td{display:flex;justify-content:space-between;gap:.8rem}
td:empty{display:none}
table.numbers td{text-align:left;white-space:normal}
td .label{display:block;color:var(--muted);font-size:.87em;flex:0 1 auto}
td .value{text-align:right;overflow-wrap:anywhere;flex:1 1 50%}
table.numbers td .value{flex:0 0 auto;white-space:nowrap}
.samples dl{display:block}
.samples dt{margin:.35rem 0 0}
td .sign{display:inline;margin-left:.3rem}}
@media print{body{background:#fff}section{break-inside:avoid}}
"""
