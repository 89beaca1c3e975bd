"""How reports are asked for, and how their pages are read."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from cxr_estimator.report._page import SECTIONS

VOID = {"meta", "img", "br"}
FAST = {"methods": ["grad_cam"], "n_examples": 1, "n_maps": 6, "n_resamples": 20}
FEW = {"checks": ["label_order", "border_exchange"], "methods": ["grad_cam"], "n_resamples": 20, "n_maps": 6}


class Page(HTMLParser):
    """What a page holds; reading one that is not well formed fails."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.links, self.images, self.headings, self.texts = [], [], [], [], [], []
        self.sections = {}
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found["href"]] if "href" in found else []
        if tag == "img":
            self.images.append(found)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in VOID:
            self.open.append((tag, found.get("id")))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        if self.open and self.open[-1][0] != "style":
            self.texts.append(data)
            section = next((id for tag, id in self.open if tag == "section"), None)
            self.sections[section] = self.sections.get(section, "") + data

    def check(self):
        """Whether it can be read from top to bottom, and with a screen reader."""
        assert len(set(self.ids)) == len(self.ids)
        assert [link[1:] for link in self.links] == list(SECTIONS)
        assert set(SECTIONS) <= set(self.ids)
        assert [id for id in self.ids if id in SECTIONS] == list(SECTIONS)
        assert all(one.get("alt") and one["src"].startswith("data:image/") for one in self.images)
        assert len({one["alt"] for one in self.images}) == len(self.images)
        assert self.headings[0] == 1
        assert 1 not in self.headings[1:]
        assert all(after <= before + 1 for before, after in zip(self.headings, self.headings[1:], strict=False))
        return self
