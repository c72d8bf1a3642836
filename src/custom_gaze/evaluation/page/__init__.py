"""reports/report.html: one page that tells a person how good their calibration is.

`content.py` says what stands on it, as plain values; the templates beside it say how it looks and
escape what they fill in. Pictures are SVG, drawn in the page's own colours, so that they follow the
reader's light or dark setting. No script, no network, no font of its own.
"""
