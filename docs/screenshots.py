"""Takes the pictures of the page in the documentation, with Chromium: `python docs/screenshots.py`."""

import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import Error, Page, sync_playwright

import hiss

PICTURES = Path(__file__).parent / "screenshots"
NOISY = Path(hiss.__file__).parent / "recordings" / "noisy-speech.flac"
PORT = 8799


def generated(page: Page) -> None:
    """Makes a digit, and copies how."""
    page.locator("#generate [name=model]").select_option("digits")
    digit, speaker = page.locator("#generate .prompt select").all()
    digit.select_option("7")
    speaker.select_option("theo")
    page.get_by_label("Seed").first.fill("1")
    page.get_by_role("button", name="Generate").click()
    page.locator("article .same").first.wait_for()
    page.get_by_role("button", name="Copy as command line").click()


def denoised(page: Page) -> None:
    """Denoises the recording that comes with hiss."""
    page.get_by_role("tab", name="Denoise").click()
    page.locator("#denoise input[type=file]").set_input_files(NOISY)
    page.get_by_role("button", name="Denoise").click()
    page.locator("article", has_text="denoised").locator(".same").wait_for()


def main() -> None:
    server = subprocess.Popen([sys.executable, "-m", "hiss", "serve", "--port", str(PORT)])
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1100, "height": 640})
            while server.poll() is None:
                try:
                    page.goto(f"http://127.0.0.1:{PORT}")
                    break
                except Error:  # the server is not up yet
                    page.wait_for_timeout(500)
            page.wait_for_selector("html[data-ready]")
            generated(page)
            page.screenshot(path=PICTURES / "generate.png")
            denoised(page)
            page.set_viewport_size({"width": 390, "height": 844})
            page.locator("article").first.evaluate("one => scrollTo(0, one.offsetTop - 110)")
            page.screenshot(path=PICTURES / "phone.png")
            page.set_viewport_size({"width": 1100, "height": 640})
            page.emulate_media(color_scheme="dark")
            page.get_by_role("button", name="Hear before").click()
            page.evaluate("scrollTo(0, 0)")
            page.screenshot(path=PICTURES / "denoise.png")
            browser.close()
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
