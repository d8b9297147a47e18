"""A picture of a web page, such as docs/compare-runs.png: python docs/screenshot.py URL OUT.png [WIDTH HEIGHT]"""

import io
import shutil
import sys
import tempfile
from contextlib import contextmanager

from PIL import Image
from selenium import webdriver
from selenium.webdriver.support.ui import WebDriverWait

FLAGS = """headless=new no-sandbox disable-gpu disable-quic disable-sync no-first-run
    disable-background-networking disable-component-update"""
# before the page loads: MLflow's assistant stays shut; no tool bars, no notices; room for the names of the runs
CALM = """localStorage.setItem("mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true")
document.addEventListener("DOMContentLoaded", () => document.head.insertAdjacentHTML("beforeend", `<style>
    .modebar, body div[role=alert][role], [data-assistant-ui] { display: none !important }
    .react-resizable[style*="flex: 0 0"] { flex-basis: 350px !important; width: 350px !important }</style>`))"""


@contextmanager
def browser(width: int = 1600, height: int = 1000):
    """A headless Chromium with an empty profile; it ends with the block."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        raise FileNotFoundError("chromium and chromedriver must be on the PATH (Debian: apt install chromium-driver)")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for flag in (f"window-size={width},{height}", f"user-data-dir={profile}", *FLAGS.split()):
            options.add_argument(f"--{flag}")
        chrome = webdriver.Chrome(options, webdriver.ChromeService(driver))
        try:
            yield chrome
        finally:
            chrome.quit()


def main(url: str, out: str, width: str = "1500", height: str = "900") -> None:
    with browser(int(width), int(height)) as chrome:
        size = {"width": int(width), "height": int(height)}
        chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {**size, "deviceScaleFactor": 1, "mobile": False})
        chrome.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": CALM})
        chrome.get(url)
        seen: list[bytes] = []

        def still(chrome):  # the page has looked the same for 5 seconds
            seen.append(chrome.get_screenshot_as_png())
            return len(seen) > 6 and len(set(seen[-6:])) == 1

        WebDriverWait(chrome, 120, poll_frequency=1).until(still)
    Image.open(io.BytesIO(seen[-1])).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(out, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
