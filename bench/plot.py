# SPDX-License-Identifier: Apache-2.0
"""Two plots as SVG files, without a library: lines over steps and groups of bars."""
import math
from html import escape

WIDTH, HEIGHT, LEFT, TOP, BOTTOM, LEGEND = 860, 420, 70, 40, 40, 150
COLOURS = ["#c1121f", "#1f6fb4", "#2f9e44", "#e8890c", "#7b4fa3", "#0c8599", "#8d6e63", "#6c757d", "#212529"]
INNER = WIDTH - LEFT - LEGEND, HEIGHT - TOP - BOTTOM


def tick(top):
    """A round distance between about five lines."""
    rough = top / 5
    power = 10 ** math.floor(math.log10(rough))
    return next(power * m for m in (1, 2, 5, 10) if power * m >= rough)


def text(x, y, words, anchor="middle", weight="normal"):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}">{escape(words)}</text>'


def frame(title, unit, rows):
    """The title, the scale and the legend; gives them and a function from a value to its height."""
    top = max(max(values) for values in rows.values())
    step = tick(top)
    top = math.ceil(top / step) * step
    y = lambda value: TOP + INNER[1] * (1 - value / top)  # noqa: E731
    parts = [text(LEFT, 22, f"{title}, {unit}", "start", "bold")]
    for i in range(round(top / step) + 1):
        parts += [f'<path d="M{LEFT} {y(i * step):.1f}h{INNER[0]}" stroke="#ddd"/>',
                  text(LEFT - 8, y(i * step) + 4, f"{i * step:g}", "end")]
    for i, name in enumerate(rows):
        x, line = LEFT + INNER[0] + 16, TOP + 10 + 20 * i
        parts += [f'<rect x="{x}" y="{line}" width="12" height="12" fill="{COLOURS[i % len(COLOURS)]}"/>',
                  text(x + 18, line + 10, name, "start")]
    return parts, y


def save(path, parts):
    with open(path, "w") as file:
        file.write(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
                   'font-size="12">\n<rect width="100%" height="100%" fill="#fff"/>\n')
        file.write("\n".join(parts) + "\n</svg>\n")


def lines(path, title, unit, steps, rows):
    """`rows`: a name to one value for each step."""
    parts, y = frame(title, unit, rows)
    x = lambda i: LEFT + INNER[0] * (i + 0.5) / len(steps)  # noqa: E731
    parts += [text(x(i), HEIGHT - BOTTOM + 20, step) for i, step in enumerate(steps)]
    for n, values in enumerate(rows.values()):
        points = " ".join(f"{x(i):.1f},{y(v):.1f}" for i, v in enumerate(values))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{COLOURS[n % len(COLOURS)]}" '
                     f'stroke-width="{3 if n == 0 else 1.5}"/>')
    save(path, parts)


def bars(path, title, unit, groups, rows):
    """`rows`: a name to one value for each group."""
    parts, y = frame(title, unit, rows)
    room = INNER[0] / len(groups)
    width = room * 0.85 / len(rows)
    for g, group in enumerate(groups):
        parts.append(text(LEFT + room * (g + 0.5), HEIGHT - BOTTOM + 20, group))
        for n, values in enumerate(rows.values()):
            x, height = LEFT + room * (g + 0.075) + width * n, y(0) - y(values[g])
            parts.append(f'<rect x="{x:.1f}" y="{y(values[g]):.1f}" width="{width * 0.9:.1f}" height="{height:.1f}" '
                         f'fill="{COLOURS[n % len(COLOURS)]}"/>')
    save(path, parts)
