"""The pages in a real browser, with scripts and without: what an artist does from the question to the request."""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="needs the extra: pip install 'replication-detector[server]'")
pytest.importorskip("playwright", reason="needs the extra: pip install 'replication-detector[test]'")

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

from index.requests import requests
from tests.serving import served

if TYPE_CHECKING:
    from playwright.sync_api import ConsoleMessage, Request

pytestmark = [pytest.mark.browser, pytest.mark.slow]

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PHONE = {"width": 360, "height": 740}

Visit = Callable[..., AbstractContextManager[Page]]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser: install Chromium (tried {', '.join(BROWSERS)})")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def index(sample_index: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index that these tests may file requests in."""
    return Path(shutil.copytree(sample_index, tmp_path_factory.mktemp("browser") / "art.index"))


@pytest.fixture(scope="module")
def address(index: Path, sample_findings: Path) -> Iterator[str]:
    with served(index, findings=(sample_findings,)) as client:
        yield str(client.base_url).rstrip("/")


@pytest.fixture
def visit(browser: Browser, address: str) -> Visit:
    """Open the start page; afterwards nothing was complained of, and nothing was asked of another host."""

    @contextmanager
    def opened(*, scripts: bool = True, trouble: str = "", **options: Any) -> Iterator[Page]:
        context = browser.new_context(java_script_enabled=scripts, base_url=address, **options)
        context.set_default_timeout(20_000)
        page = context.new_page()
        complaints: list[str] = []
        elsewhere: list[str] = []

        def said(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning") and not (trouble and re.search(trouble, message.text)):
                complaints.append(message.text)

        def asked(request: Request) -> None:
            if not request.url.startswith((address, "blob:", "data:")):
                elsewhere.append(request.url)

        page.on("console", said)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.on("request", asked)
        page.goto("/")
        yield page
        context.close()
        assert not complaints
        assert not elsewhere

    return opened


def look_up(page: Page, *, name: str = "", pictures: list[Path] | None = None) -> None:
    if name:
        page.get_by_label("Your name").fill(name)
    if pictures:
        page.get_by_label("Pictures of your works").set_input_files(pictures)
    page.get_by_role("button", name="Look up").click()
    page.wait_for_url("**/results/*")


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_an_artist_goes_from_the_name_to_a_filed_request(visit: Visit, index: Path, scripts: bool) -> None:
    before = {request.id for request in requests(index)}
    with visit(scripts=scripts) as page:
        look_up(page, name="ABARA, Lien")
        expect(page.get_by_role("heading", level=1)).to_contain_text("3 works are in this training set")

        page.get_by_role("link", name="Cold Lake").click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("Cold Lake by Lien Abara")
        page.get_by_role("link", name="0033.png").click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("Near copy of Cold Lake")
        expect(page.locator(".pair img")).to_have_count(2)
        page.go_back()
        page.get_by_role("link", name="Back to the answer").click()

        with page.expect_download() as download:
            page.get_by_role("link", name="Download the evidence").click()
        verify(Path(download.value.path()).read_bytes())

        page.get_by_role("link", name="Ask for removal").click()
        expect(page.get_by_role("checkbox")).to_have_count(3)
        page.get_by_role("checkbox", name="Pools").uncheck()
        page.get_by_label("How to reach you").fill("lien@studio.example")
        page.get_by_label("In your words").fill(f"I made these. Scripts: {scripts}")
        page.get_by_role("button", name="File the request").click()
        expect(page.get_by_role("status")).to_have_text("Your request is filed.")
        expect(page.get_by_role("heading", level=1)).to_have_text("The request waits for a decision")

        (filed,) = (request for request in requests(index) if request.id not in before)
        assert page.get_by_text(filed.id).is_visible()
        assert len(filed.sha256s) == 2
        assert filed.contact == "lien@studio.example"
        assert filed.statement == f"I made these. Scripts: {scripts}"

        page.get_by_role("link", name="Requests").click()
        page.get_by_label("Number of the request").fill(filed.id)
        page.get_by_role("button", name="Show it").click()
        page.wait_for_url(f"**/requests/{filed.id}")
    # What is asked for again is not asked for twice, so the next round of this test needs another request.
    assert len({request.id for request in requests(index)}) == len(before) + 1
    with served_writer(index) as writer:
        writer.decline_request(filed.id, reason="a test")


@contextmanager
def served_writer(index: Path) -> Iterator[Any]:
    from index.reference_index import ReferenceIndex

    writer = ReferenceIndex.open(index, writable=True)
    try:
        yield writer
    finally:
        writer.close()


def verify(bundle: bytes) -> None:
    """Check every digest of a bundle, and that every file has one."""
    with zipfile.ZipFile(io.BytesIO(bundle)) as files:
        sums = dict(
            reversed(line.split("  ", 1)) for line in files.read("SHA256SUMS").decode("utf-8").splitlines()
        )
        assert set(sums) == set(files.namelist()) - {"SHA256SUMS"}
        for name, digest in sums.items():
            assert hashlib.sha256(files.read(name)).hexdigest() == digest, name


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_pictures_are_chosen_and_a_match_opened(visit: Visit, edited: Path, scripts: bool) -> None:
    with visit(scripts=scripts) as page:
        look_up(page, pictures=[edited / "0024.png", edited / "0029.jpg"])
        expect(page.get_by_text("shows too little detail")).to_be_visible()
        page.get_by_role("link", name="The Striped Fish").click()
        expect(page.locator(".pair svg")).to_have_count(2)
        for picture in page.locator(".pair img").all():
            box = picture.bounding_box()
            assert box is not None
            assert box["width"] > 200
        laid = page.get_by_role("heading", name="Laid over each other")
        expect(laid).to_be_visible() if scripts else expect(laid).to_be_hidden()
        facts = page.get_by_text("matching points agree on one transformation")
        expect(facts).to_be_hidden()
        page.get_by_text("What was measured").click()
        expect(facts).to_be_visible()


def test_pictures_are_dropped_taken_out_and_counted(visit: Visit, edited: Path) -> None:
    drop = """([name, bytes]) => {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], name, { type: "image/png" }));
        for (const kind of ["dragenter", "dragover", "drop"]) {
            document.querySelector("h1").dispatchEvent(
                new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true }));
        }
    }"""
    with visit() as page:
        for name in ("0024.png", "0018.png"):
            page.evaluate(drop, [name, list((edited / name).read_bytes())])
        expect(page.get_by_role("list", name="Chosen pictures").get_by_role("listitem")).to_have_count(2)
        expect(page.get_by_role("status")).to_have_text("2 pictures chosen.")
        page.get_by_role("button", name="Remove 0018.png").click()
        expect(page.get_by_role("status")).to_have_text("0018.png taken out.")
        expect(page.get_by_role("button", name="Remove 0024.png")).to_be_focused()
        page.get_by_role("button", name="Look up").click()
        page.wait_for_url("**/results/*")
        expect(page.get_by_role("link", name="The Striped Fish")).to_be_visible()
        expect(page.get_by_role("heading", level=1)).to_contain_text("1 work is in this training set")


def test_too_many_pictures_are_told_of_before_anything_is_sent(visit: Visit, edited: Path) -> None:
    with visit() as page:
        pictures = sorted(edited.glob("*.jpg"))[:18]
        page.get_by_label("Pictures of your works").set_input_files(pictures)
        expect(page.get_by_role("status")).to_contain_text(
            f"{pictures[17].name} was left out: 16 pictures at most."
        )
        expect(page.get_by_role("button", name="Remove")).to_have_count(16)


def test_names_are_suggested_while_typing(visit: Visit) -> None:
    with visit() as page:
        page.get_by_label("Your name").press_sequentially("solhe")
        expect(page.locator("#names option").first).to_have_attribute("value", "Maren Solheim")


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_a_question_without_anything_is_answered_by_a_question(visit: Visit, scripts: bool) -> None:
    with visit(scripts=scripts, trouble="422") as page:
        page.get_by_role("button", name="Look up").click()
        where = page.get_by_role("status" if scripts else "alert")
        expect(where).to_contain_text(re.compile("name.* picture", re.IGNORECASE))
        page.get_by_label("Your name").fill("Abarra Liem")
        page.get_by_role("button", name="Look up").click()
        page.get_by_role("button", name="Lien Abara").click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("3 works are in this training set")


def grey(page: Page, at: int) -> np.ndarray:
    """What the pictures that lie over each other look like with the slider at a place: float32, (H, W), 0–255."""
    page.get_by_role("slider").fill(str(at))
    picture = Image.open(io.BytesIO(page.locator(".stage").screenshot())).convert("L")
    return np.asarray(picture, np.float32)


def test_the_slider_lays_the_shared_regions_on_each_other(visit: Visit, edited: Path) -> None:
    with visit() as page:
        look_up(page, pictures=[edited / "0024.png"])
        page.get_by_role("link", name="The Striped Fish").click()
        page.wait_for_load_state("networkidle")
        own, training = grey(page, 100), grey(page, 0)
        assert own.shape == training.shape
        height, width = own.shape
        inside = np.s_[int(0.35 * height) : int(0.65 * height), int(0.18 * width) : int(0.5 * width)]

        def likeness(shift: int) -> float:
            moved = np.roll(training, shift, axis=1)
            return float(np.corrcoef(own[inside].ravel(), moved[inside].ravel())[0, 1])

        assert likeness(0) > 0.85
        assert likeness(0) > max(likeness(width // 50), likeness(-width // 50)) + 0.1

        button = page.get_by_role("button", name="Take turns")
        button.click()
        expect(button).to_have_attribute("aria-pressed", "true")
        expect(page.locator(".stage")).to_have_class(re.compile(r"\bfirst\b"))
        button.click()
        expect(page.locator(".stage")).to_have_class("stage")


def test_everything_can_be_done_by_keyboard(visit: Visit) -> None:
    with visit() as page:
        press = page.keyboard.press
        press("Tab")
        expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        press("Enter")
        press("Tab")
        expect(page.get_by_label("Your name")).to_be_focused()
        page.keyboard.type("Lien Abara")
        press("Enter")
        page.wait_for_url("**/results/*")
        tab_to(page, "Cold Lake by Lien Abara")
        outline = page.evaluate("getComputedStyle(document.activeElement, '::after').outlineStyle")
        assert outline == "solid"
        press("Enter")
        page.wait_for_url("**/works/1")
        tab_to(page, "0033.png")
        press("Enter")
        page.wait_for_url("**/scans/*")
        tab_to(page, "What was measured")
        press("Enter")
        expect(page.get_by_text("PDQ distance")).to_be_visible()
        page.get_by_role("slider").focus()
        press("ArrowRight")
        assert page.locator(".stage").evaluate("node => node.style.getPropertyValue('--at')") == "51%"


def tab_to(page: Page, text: str) -> None:
    """Press Tab until what says this has the focus."""
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent").strip() == text:
            return
    pytest.fail(f"Tab does not lead to {text!r}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_has_a_serious_obstacle_or_is_wider_than_a_phone(
    visit: Visit, edited: Path, scheme: str
) -> None:
    with visit(color_scheme=scheme, trouble="404|422") as page:
        obstacles: list[str] = []

        def look(name: str) -> None:
            page.wait_for_load_state("networkidle")
            for violation in Axe().run(page).response["violations"]:
                if violation["impact"] in ("serious", "critical"):
                    nodes = [node["html"][:120] for node in violation["nodes"][:3]]
                    obstacles.append(f"{name}: {violation['id']}: {nodes}")
            wide = page.viewport_size
            page.set_viewport_size({"width": PHONE["width"], "height": PHONE["height"]})
            width = page.evaluate("document.documentElement.scrollWidth")
            if width > PHONE["width"]:
                obstacles.append(f"{name}: is {width} px wide on a phone")
            assert wide is not None
            page.set_viewport_size(wide)

        look("start")
        page.get_by_label("Pictures of your works").set_input_files(
            [edited / "0024.png", edited / "0029.jpg"]
        )
        page.get_by_text("Your web site, your licence").click()
        page.get_by_label("The licence of your works").fill("CC-BY-NC-4.0")
        look("start, filled in")
        look_up(page, name="Lien Abara")
        look("answer")
        answer = page.url
        page.get_by_role("link", name="The Striped Fish").click()
        page.get_by_text("What was measured").click()
        look("match")
        page.goto(answer)
        page.get_by_role("link", name="Cold Lake").click()
        look("work")
        page.get_by_role("link", name="Ask for its removal").click()
        look("removal")
        for path in ("/scans", "/scans?q=nobody", "/requests", "/requests?id=1", "/results/gone"):
            page.goto(path)
            look(path)
        page.goto("/scans")
        page.get_by_role("link", name="0033.png").click()
        look("finding")
        page.goto("/scans?kind=no_match")
        page.locator("tbody a").first.click()
        look("finding without a match")
        page.goto("/")
        look_up(page, name="Abarra Liem")
        look("nothing found")
        assert not obstacles


def test_scans_are_filtered_without_scripts(visit: Visit) -> None:
    with visit(scripts=False) as page:
        page.get_by_role("link", name="Scans").click()
        page.get_by_role("link", name="Replicas").click()
        expect(page.locator("tbody tr")).to_have_count(5)
        page.get_by_role("searchbox").fill("abara")
        page.get_by_role("button", name="Show").click()
        expect(page.locator("tbody tr")).to_have_count(1)
        assert "kind=replica" in page.url


def test_the_login_lets_a_browser_in_and_out(browser: Browser, sample_index: Path, tmp_path: Path) -> None:
    token = "kUKz6m2XrTq0-not-a-secret"
    with served(sample_index, token=token) as client:
        context = browser.new_context(base_url=str(client.base_url))
        page = context.new_page()
        page.goto("/requests")
        violations = Axe().run(page).response["violations"]
        assert [v["id"] for v in violations if v["impact"] in ("serious", "critical")] == []
        page.get_by_label("Token").fill(token)
        page.get_by_role("button", name="Go on").click()
        page.wait_for_url("**/requests")
        (cookie,) = context.cookies()
        assert cookie["httpOnly"]
        assert cookie["sameSite"] == "Strict"
        page.get_by_role("button", name="Sign out").click()
        page.wait_for_url("**/login")
        assert context.cookies() == []
        context.close()
