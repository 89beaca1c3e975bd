"""How tables, figures and progress look on pages, in light and in dark, down to the width of a phone."""

from __future__ import annotations

PAGES_CSS = """
.cxr-wide { overflow-x: auto; }
.cxr-wide table { width: 100%; }
.cxr-wide th, .cxr-wide td { vertical-align: top; text-align: left; overflow-wrap: normal; }
.cxr-wide th, .cxr-wide td { white-space: normal; word-break: keep-all; }
.cxr-progress { display: flex; flex-wrap: wrap; align-items: center; gap: 0.75rem; }
.cxr-progress progress { flex: 1 1 10rem; height: 0.7rem; appearance: none; border: 0; }
.cxr-progress progress, .cxr-progress progress::-webkit-progress-bar {
  background: var(--background-fill-secondary); border-radius: 1rem; box-shadow: 0 0 0 1px var(--border-color-primary);
}
.cxr-progress progress::-webkit-progress-value { background: var(--primary-600); border-radius: 1rem; }
.cxr-progress progress::-moz-progress-bar { background: var(--primary-600); border-radius: 1rem; }
/* an image of no size that loads lazily would never be asked for */
.cxr-figure .image-frame, .cxr-figure img { min-width: 100%; min-height: 8rem; object-fit: contain; }
.cxr-table th, .cxr-table td { font-family: var(--font); font-size: 0.85rem; }
.cxr-table .cell-wrap, .cxr-table th { font-family: var(--font); }
.cxr-gallery .caption-label {
  white-space: normal; max-width: 100%; left: 0; right: 0; bottom: 0; margin: 0; border-radius: 0; text-align: left;
  font-size: 0.75rem; line-height: 1.25;
}
.cxr-gallery .grid-wrap { max-height: none; height: auto; overflow: visible; }
.cxr-card { overflow-wrap: anywhere; }
.cxr-card table { display: block; overflow-x: auto; overflow-wrap: normal; border-collapse: collapse; }
.cxr-card th, .cxr-card td { border: 1px solid var(--border-color-primary); padding: 0.3rem 0.6rem; text-align: left; }
.cxr-card pre { overflow-x: auto; background: var(--background-fill-secondary); padding: 0.6rem; }
@media (max-width: 600px) {
  .cxr-wide th, .cxr-wide td { padding: 0.35rem !important; font-size: 0.85rem; }
  .cxr-gallery .grid-container { grid-template-columns: repeat(2, 1fr) !important; }
}
"""
