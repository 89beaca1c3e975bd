"""Screenshots of the Analyse page with a synthetic radiograph: `docs/demo.png`, or all sizes and themes in a folder.

python docs/make_demo_pictures.py            # the picture of the README
python docs/make_demo_pictures.py FOLDER     # desktop and phone, light and dark, to be looked at
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from cxr_estimator.demo import Settings, running

SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
HEIGHT = 1560  # of the picture: down to the trust card
ARGS = "--no-sandbox --disable-gpu --disable-background-networking --disable-quic --no-first-run"


def main(folder: Path | None) -> None:
    with running(Settings(device="cpu")) as app, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGS.split())
        shots = [("desktop", "light")] if folder is None else [(s, t) for s in SIZES for t in ("light", "dark")]
        for size, theme in shots:
            width, height = SIZES[size]
            page = browser.new_page(viewport={"width": width, "height": height})
            page.goto(f"{app.local_url}?__theme={theme}")
            page.get_by_role("button", name="With an opacity").click()
            page.locator(".cxr-card").wait_for()
            page.wait_for_timeout(3000)  # until the other methods are there, too
            if folder is None:
                place = {"x": 0, "y": 0, "width": width, "height": HEIGHT}
                page.screenshot(path=Path(__file__).with_name("demo.png"), full_page=True, clip=place)
            else:
                page.screenshot(path=folder / f"analyse_{size}_{theme}.png", full_page=True)
            page.close()
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
