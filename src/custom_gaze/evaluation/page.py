"""reports/report.html as a template of Jinja, which escapes what it fills in."""

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>custom-gaze report</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
  color: #1f2933; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .35rem .6rem; border-bottom: 1px solid #e4e7eb;
  overflow-wrap: anywhere; }
th { font-weight: 600; }
figure { margin: 1.5rem 0; } img { max-width: 100%; } figcaption { color: #52606d; }
.warning { background: #fff3cd; border-left: 4px solid #e0a800; padding: .6rem .9rem; }
</style></head><body>
{%- macro table(header, rows) %}
<table><thead><tr>
{%- for cell in header %}<th>{{ cell }}</th>{% endfor %}</tr></thead><tbody>
{%- for row in rows %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>{% endfor -%}
</tbody></table>
{%- endmacro %}
<h1>custom-gaze</h1>
{%- if warning %}
<p class=warning>{{ warning }}</p>
{%- endif %}
<h2>Errors</h2>
<p>Mean angular error of the exported file, with a 95 % interval over targets: Student's t on its
logarithm, where there are three targets at least. In simulated sessions such intervals of 3 to 25
targets covered the mean 90 to 95 % of the time, least where a few targets are much worse than the
others. Beside it, on the same frames, what a user has without training: the mean of the calibration
targets as a constant prediction, the base network as it is, and the base network through the best
of the app's corrections (gain and offset, quadratic, support vector regression), chosen by
cross-validation and fitted on all frames but the test targets'. The base network through its best
polynomial, the linear probe and the fine-tuned network are the candidates for export.</p>
{{- table(header, errors) }}
<p>Exported: {{ exported }}.</p>
{{- table(("candidate", "error on calibration targets held out"), held_out) }}
<h2>Sessions</h2>
{{- table(("session", "tested on") + header[1:], sessions) }}
{%- for caption, png in pictures %}
<figure><img alt="{{ caption }}" src="data:image/png;base64,{{ png }}">
<figcaption>{{ caption }}</figcaption></figure>
{%- endfor %}
<h2>Frames left out</h2>
{%- if left_out %}
{{- table(("session", "frame", "reason"), left_out) }}
{%- else %}
<p>None.</p>
{%- endif %}
<h2>Made with</h2>
{{- table(("what", "value"), made_with) }}
</body></html>
"""
