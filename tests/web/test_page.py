"""The page in a real browser: Debian's Chromium, driven by Playwright; skipped where there is none."""

import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import denoisers
import pytest
from serving import Client, served, toy_shelf

from hiss.audio import Audio
from hiss.web.works import Generation, Progress

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here; apt-get install chromium brings it"),
]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with served(toy_shelf(tmp_path_factory.mktemp("models"))) as client:
        yield client


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    with sync_api.sync_playwright() as playwright:
        microphone = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]  # it beeps
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", *microphone]
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser: "Browser", client: Client) -> "Iterator[Page]":
    """Yields the page of the server; it may ask no other host, and nothing in it may fail."""
    context = browser.new_context(
        viewport={"width": 1200, "height": 800}, permissions=["clipboard-read", "clipboard-write"]
    )
    page, wrong = context.new_page(), []
    page.set_default_timeout(30_000)
    page.on("request", lambda one: wrong.append(one.url) if not one.url.startswith((client.url, "blob:")) else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda one: wrong.append(one.text) if "Content Security Policy" in one.text else None)
    page.goto(client.url)
    page.wait_for_selector("html[data-ready]")
    yield page
    context.close()
    assert not wrong


def newest(page: "Page") -> "Locator":
    """Returns the card of what was asked for last."""
    return page.locator("article").first


def finished(page: "Page") -> "Locator":
    """Returns that card when its sounds are there."""
    card = newest(page)
    card.locator(".same").wait_for()
    return card


def until(page: "Page", condition: str) -> None:
    """Waits for a condition in JavaScript; the page's own policy forbids Playwright to wait for it in there."""
    for _ in range(600):
        if page.evaluate(condition):
            return
        time.sleep(0.05)
    raise AssertionError(f"it never came to {condition}")


def coloured(card: "Locator") -> bool:
    """Returns whether there is a picture on the first canvas of a card."""
    return bool(
        card.locator("canvas").first.evaluate(
            "one => new Set(one.getContext('2d').getImageData(0, 0, one.width, one.height).data).size > 20"
        )
    )


def test_a_label_is_generated_heard_downloaded_and_copied(page: "Page", tmp_path: Path) -> None:
    page.get_by_label("note").first.select_option("high")
    page.get_by_label("Seed").first.fill("7")
    page.get_by_label("Count").fill("2")
    page.get_by_role("button", name="Generate").click()
    card = finished(page)
    assert card.locator("h2").inner_text() == "high (toy)"
    assert "seed 7" in card.locator(".facts").inner_text()
    assert card.locator("audio").count() == 2
    until(page, "document.querySelector('article audio').duration > 0.09")
    assert coloured(card)
    with page.expect_download() as download:
        card.get_by_role("button", name="Download FLAC").first.click()
    download.value.save_as(tmp_path / "sound.flac")
    assert Audio.load(tmp_path / "sound.flac").seconds == pytest.approx(0.1)
    card.get_by_role("button", name="Copy as command line").click()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == card.locator("pre").inner_text()
    assert "--count 2" in copied
    assert "--seed 7" in copied
    assert copied.endswith("-- high")


def test_a_file_is_denoised_and_heard_before_and_after(page: "Page", tmp_path: Path) -> None:
    page.get_by_role("tab", name="Denoise").click()
    file = denoisers.write_noise(tmp_path / "it's noisy.wav")
    page.locator("#denoise input[type=file]").set_input_files(file)
    page.get_by_label("Noise kept").fill("50")
    page.get_by_role("button", name="Denoise").click()
    card = finished(page)
    assert coloured(card)
    after = card.locator("audio").get_attribute("src")
    card.get_by_role("button", name="Hear before").click()
    assert card.locator("audio").get_attribute("src") != after
    card.get_by_role("button", name="Hear after").click()
    assert card.locator("audio").get_attribute("src") == after
    card.get_by_role("button", name="Copy as command line").click()
    assert "hiss denoise 'it'\\''s noisy.wav'" in card.locator("pre").inner_text()
    assert "--keep-db 6.02" in card.locator("pre").inner_text()


def test_a_file_can_be_dropped(page: "Page", tmp_path: Path) -> None:
    page.get_by_role("tab", name="Denoise").click()
    file = denoisers.write_noise(tmp_path / "noisy.wav")
    dropped = page.evaluate_handle(
        """bytes => {
            const files = new DataTransfer();
            files.items.add(new File([new Uint8Array(bytes)], "dropped.wav"));
            return files;
        }""",
        list(file.read_bytes()),
    )
    page.dispatch_event("#denoise .drop", "dragover", {"dataTransfer": dropped})
    assert page.locator("#denoise .drop.over").is_visible()
    page.dispatch_event("#denoise .drop", "drop", {"dataTransfer": dropped})
    page.get_by_role("button", name="Denoise").click()
    assert finished(page).locator("h2").inner_text() == "dropped.wav, denoised"


def test_what_the_microphone_hears_is_denoised(page: "Page") -> None:
    page.get_by_role("tab", name="Denoise").click()
    record = page.locator("#denoise .record")
    record.click()
    page.locator("#denoise .record", has_text="Stop").wait_for()
    page.wait_for_timeout(600)
    record.click()
    until(page, "document.querySelector('#denoise input[type=file]').files.length === 1")
    page.get_by_role("button", name="Denoise").click()
    card = finished(page)
    assert card.locator("h2").inner_text() == "recording.wav, denoised"
    until(page, "document.querySelector('article audio').duration > 0.3")


def test_work_is_cancelled(page: "Page", client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(work: Generation, works: Sequence[Generation], watch: Progress) -> list[list[Audio]]:
        for step in range(4000):
            watch(step, 4000)
            time.sleep(0.01)
        raise AssertionError("it went on")

    monkeypatch.setattr(Generation, "make", endless)
    page.get_by_role("button", name="Generate").click()
    card = newest(page)
    card.locator("progress[value]").wait_for()
    card.get_by_role("button", name="Cancel").click()
    assert card.get_by_role("alert").inner_text() == "cancelled"
    for _ in range(500):
        if client.get("/healthz").json["open"] == 0:
            return
        time.sleep(0.02)
    raise AssertionError("the server works on")


def test_a_file_that_is_no_sound_is_refused_in_words(page: "Page", tmp_path: Path) -> None:
    (tmp_path / "song.mp3").write_bytes(b"no song at all" * 50)
    page.get_by_role("tab", name="Denoise").click()
    page.locator("#denoise input[type=file]").set_input_files(tmp_path / "song.mp3")
    page.get_by_role("button", name="Denoise").click()
    newest(page).get_by_role("alert").wait_for()
    assert "cannot be read as audio" in newest(page).get_by_role("alert").inner_text()


def test_a_recording_is_mended_where_a_span_was_drawn(page: "Page", tmp_path: Path) -> None:
    page.get_by_role("tab", name="Edit").click()
    page.locator("#edit input[type=file]").set_input_files(denoisers.write_noise(tmp_path / "song.wav", 0.1))
    page.get_by_label("make a part anew").check()
    for _ in range(600):  # a span can be drawn once the browser has decoded the file
        if coloured(page.locator("#edit")):
            break
        page.wait_for_timeout(50)
    box = page.locator("#edit canvas").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.75 * box["width"], box["y"] + 20)
    page.mouse.up()
    assert float(page.get_by_label("From", exact=True).input_value()) == pytest.approx(0.025, abs=0.002)
    assert float(page.get_by_label("To", exact=True).input_value()) == pytest.approx(0.075, abs=0.002)
    page.get_by_role("button", name="Make").click()
    assert finished(page).locator("h2").inner_text() == "song.wav, mended"
    page.get_by_label("a new loop").check()
    page.get_by_role("button", name="Make").click()
    finished(page).get_by_text("a loop (toy)").wait_for()


def test_a_recording_is_varied_after_a_label_with_any_model_that_generates(page: "Page", tmp_path: Path) -> None:
    page.get_by_role("tab", name="Edit").click()
    page.locator("#edit input[type=file]").set_input_files(denoisers.write_noise(tmp_path / "song.wav", 0.1))
    page.locator("#edit").get_by_label("note").select_option("high")
    page.get_by_label("vary").check()
    page.get_by_label("Strength").fill("0.3")
    page.get_by_role("button", name="Make").click()
    card = finished(page)
    assert card.locator("h2").inner_text() == "song.wav, varied"
    card.get_by_role("button", name="Copy as command line").click()
    assert "--init song.wav --strength 0.3" in card.locator("pre").inner_text().replace("'", "")
    assert card.locator("pre").inner_text().endswith("-- high")


def test_tabs_are_walked_by_keyboard_and_models_show_their_cards(page: "Page") -> None:
    page.get_by_role("tab", name="Generate").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#denoise").is_visible()
    page.keyboard.press("End")
    page.locator("#models td", has_text="2").wait_for()  # the cards are fetched after the page is ready
    page.keyboard.press("Home")
    page.get_by_label("Seed").first.focus()
    page.keyboard.type("3")
    page.keyboard.press("Enter")
    assert "seed 3" in finished(page).locator(".facts").inner_text()


@pytest.mark.parametrize("width", [320, 390])
def test_a_phone_shows_all_of_the_page(page: "Page", width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.get_by_role("button", name="Generate").click()
    finished(page).get_by_role("button", name="Copy as Python").click()
    for tab in page.get_by_role("tab").all():
        tab.click()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_role("tab", name="Generate").click()
    for button in page.locator("button:visible").all():
        box = button.bounding_box()
        assert box is not None
        assert box["height"] >= 38  # fingers are wide


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_in_the_dark(page: "Page", scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    contrasts = page.evaluate("""() => {
        const channels = text => text.match(/[\\d.]+/g).slice(0, 3).map(part => part / 255)
            .map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
        const light = text => channels(text).reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
        const ground = one => {
            const colour = getComputedStyle(one).backgroundColor;
            return colour === 'rgba(0, 0, 0, 0)' && one.parentElement ? ground(one.parentElement) : colour;
        };
        return [...document.querySelectorAll('h1, label, button, .empty, summary')].filter(one => one.offsetParent)
            .map(one => [light(getComputedStyle(one).color), light(ground(one))].sort((a, b) => b - a))
            .map(([bright, dark]) => (bright + 0.05) / (dark + 0.05));
    }""")
    assert len(contrasts) > 8
    assert min(contrasts) > 4.5  # what WCAG 2.2 asks for
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 28)"
    assert dark == (scheme == "dark")


def test_a_token_is_asked_for_and_remembered(browser: "Browser", tmp_path: Path) -> None:
    with served(toy_shelf(tmp_path), token="sesame") as closed:
        page = browser.new_page()
        page.goto(closed.url)
        page.get_by_label("Token of this server").fill("sesame")
        page.get_by_role("button", name="Enter").click()
        page.get_by_role("tab", name="Denoise").wait_for()
        page.goto(f"{closed.url}/#sesame")
        page.get_by_role("tab", name="Denoise").wait_for()
        page.close()
