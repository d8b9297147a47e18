"""The report of the prepare stage: reports/data.html, one page that needs nothing else, and its table as CSV."""

import base64
import io
from pathlib import Path

import numpy as np

from src import files, paths, plots
from src.data import profile
from src.data.profile import Profile, Sample
from src.data.schema import SPLITS, Schema, SplitName

SHOWN = 12  # images of a class
WIDTH, HEIGHT = 150, 34  # of a small chart, in pixels
COLOURS: dict[SplitName, str] = {"train": "#8a8f98", "val": "#1f5fa8", "test": "#c25b12"}

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Data: {{ schema.title }}</title>
<style>
 body { font: 15px/1.45 system-ui, sans-serif; color: #1c2127; max-width: 1080px; margin: 2em auto; padding: 0 1em }
 h1 { font-size: 1.5em } h2 { font-size: 1.15em; margin-top: 2em }
 table { border-collapse: collapse; width: 100% } td, th { padding: .3em .7em; border-bottom: 1px solid #dde1e6;
 text-align: left; vertical-align: top } th { font-weight: 600 } .n { text-align: right; white-space: nowrap }
 .wonder li { margin: .3em 0 } .key span { margin-right: 1.2em } .key b { font-size: 1.3em; line-height: 0 }
 img { image-rendering: pixelated; display: block; margin: .2em 0 } .far { color: #b3261e; font-weight: 600 }
 td.s { max-width: 22em; overflow-wrap: anywhere } small, .quiet { color: #5c6570 }
</style>
<h1>{{ schema.title }}</h1>
<p>{{ schema.source }} · {{ schema.task }}, predicting <b>{{ schema.target.name }}</b> · one input has shape
{{ schema.shape | list }} · digest <code>{{ schema.digest[:12] }}</code></p>
<table><tr><th>rows read</th>{% for name in splits %}<th>{{ name }}</th>{% endfor %}
{% for reason in schema.dropped %}<th>dropped: {{ reason }}</th>{% endfor %}</tr>
<tr><td>{{ "{:,}".format(read) }}</td>
{% for name in splits %}<td>{{ "{:,}".format(schema.rows[name]) }}</td>{% endfor %}
{% for count in schema.dropped.values() %}<td>{{ "{:,}".format(count) }}</td>{% endfor %}</tr>
</table>
<h2>Worth a look</h2>
{% if warnings %}<ul class="wonder">{% for line in warnings %}<li>{{ line }}</li>{% endfor %}</ul>
{% else %}<p>Nothing stands out: no rows in two splits, no drift between them, no column that gives the target
away.</p>{% endif %}
<p class="key">{% for name in splits %}<span style="color:{{ colours[name] }}"><b>■</b> {{ name }}</span>{% endfor %}
<small>share of a split's rows{% if sampled %}, from {{ sampled }} rows of each at most{% endif %}</small></p>
<h2>Target</h2>
{{ large }}
{% if pictures %}<h2>Images</h2><table>{% for name, image in pictures %}<tr><td>{{ name }}</td><td><img alt=""
src="data:image/png;base64,{{ image }}"></td></tr>{% endfor %}</table>{% endif %}
{% if rows %}<h2>Columns</h2>
<table><tr><th>column</th><th>kind</th><th class="n">missing</th><th>range, or most frequent</th><th>distribution</th>
<th class="n">drift</th><th class="n">alone</th></tr>
{% for row, chart in rows %}<tr><td class="s">{{ row.name }}</td><td>{{ row.kind }}</td>
<td class="n">{{ "{:.1%}".format(row.missing) if row.missing else "" }}</td><td class="s">{{ row.summary }}</td>
<td>{{ chart }}</td><td class="n">{{ "{:.2f}".format(row.drift) }}</td>
<td class="n {{ 'far' if row.alone > perfect }}">{{ "{:.0%}".format([row.alone, 0] | max) }}</td></tr>{% endfor %}
</table>
<p><small>drift: the largest distance of val and test from train, 0 to 1 · alone: the share of what there is to
explain in the target that this column explains by itself, on val</small></p>{% endif %}
{% if schema.ignored %}<h2>Not used</h2><table>{% for name, why in schema.ignored.items() %}<tr><td>{{ name }}</td>
<td>{{ why }}</td></tr>{% endfor %}</table>{% endif %}
</html>
"""


def write(schema: Schema, folder: Path = paths.PREPARED) -> list[str]:
    """Write the page, the table and a picture of the target's distribution; returns the warnings."""
    import jinja2
    import pandas as pd
    from markupsafe import Markup

    samples: dict[SplitName, Sample] = {name: profile.sample(name, schema, folder) for name in SPLITS}
    target, *columns = profile.profiles(schema, samples)
    lines = profile.warnings(schema, [target, *columns])
    page = jinja2.Environment(autoescape=True).from_string(PAGE)
    html = page.render(
        schema=schema,
        splits=SPLITS,
        colours=COLOURS,
        perfect=profile.PERFECT,
        read=sum(schema.rows.values()) + sum(schema.dropped.values()),
        sampled=f"{profile.SAMPLE:,}" if max(schema.rows.values()) > profile.SAMPLE else "",
        warnings=lines,
        large=Markup(_chart(target, 720, 170, labelled=True)),
        rows=[(row, Markup(_chart(row, WIDTH, HEIGHT))) for row in columns],
        pictures=_pictures(schema, samples["train"]) if len(schema.shape) == 3 else [],
    )
    files.write_bytes(paths.DATA_REPORT, html.encode())
    plots.write(paths.PICTURES / "prepare", {"target": plots.distribution(target.name, target.labels, target.shares)})
    table = pd.DataFrame(
        [
            {
                "column": row.name,
                "kind": row.kind,
                "missing": row.missing,
                "summary": row.summary,
                "drift": row.drift,
                "alone": row.alone,
            }
            for row in (target, *columns)
        ]
    )
    files.write_bytes(paths.COLUMNS, table.to_csv(index=False, float_format="%.4g").encode())
    return lines


def _chart(row: Profile, width: int, height: int, labelled: bool = False) -> str:
    """Bars of train, with a step line of val and of test over them, as SVG."""
    from markupsafe import escape

    count = max(len(row.labels), 1)
    top = max((max(own, default=0) for own in row.shares.values()), default=0) or 1
    step, foot = width / count, 34 if labelled else 0
    parts = []
    for place, share in enumerate(row.shares["train"]):
        tall = share / top * height
        title = f"{row.labels[place]}: " + ", ".join(f"{name} {own[place]:.1%}" for name, own in row.shares.items())
        parts.append(
            f'<rect x="{place * step:.1f}" y="{height - tall:.1f}" width="{max(step - 1, 0.5):.1f}" '
            f'height="{tall:.1f}" fill="{COLOURS["train"]}" fill-opacity=".55"><title>{escape(title)}</title></rect>'
        )
    for name in ("val", "test"):
        points = " ".join(
            f"{x:.1f},{height - share / top * height:.1f}"
            for place, share in enumerate(row.shares[name])
            for x in (place * step, (place + 1) * step)
        )
        parts.append(f'<polyline points="{points}" fill="none" stroke="{COLOURS[name]}" stroke-width="1.5"/>')
    if labelled:
        every = max(1, round(count / 12))
        for place in range(0, count, every):
            label = escape(row.labels[place][:14])
            middle = (place + 0.5) * step
            parts.append(f'<text x="{middle:.1f}" y="{height + 16}" text-anchor="middle" font-size="11">{label}</text>')
    return f'<svg width="{width}" height="{height + foot}" role="img">{"".join(parts)}</svg>'


def _pictures(schema: Schema, train: Sample) -> list[tuple[str, str]]:
    """(class, PNG as base64) of the first images of each class, side by side; of a regression, of all."""
    from PIL import Image

    mean, std = schema.scale
    pixels = train.inputs if train.inputs.dtype == np.uint8 else train.inputs * std + mean
    low, high = float(pixels.min()), float(pixels.max())
    classes = schema.target.classes or [schema.target.name]
    found = []
    for number, name in enumerate(classes[:50]):
        chosen = pixels[train.targets == number][:SHOWN] if schema.target.classes else pixels[:SHOWN]
        if len(chosen):
            strip = np.concatenate(list(chosen), axis=2).astype(np.float64)  # [channels, height, width of all]
            scaled = ((strip - low) / (high - low or 1) * 255).astype(np.uint8)
            image = Image.fromarray(scaled[0] if len(scaled) != 3 else scaled.transpose(1, 2, 0))
            factor = max(1, 40 // image.height)
            content = io.BytesIO()
            image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST).save(content, "PNG")
            found.append((str(name), base64.b64encode(content.getvalue()).decode()))
    return found
