"""A headless Chromium without a network, driven over a pipe (Chrome DevTools Protocol): no package is needed."""

import base64
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
# Software rendering, and no name resolves.
OPTIONS = (
    "--headless=new", "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    "--hide-scrollbars", "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions", "--mute-audio",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND", "--remote-debugging-pipe",
)  # fmt: skip


class Browser:
    """A running browser; `open` gives one page at a time."""

    def __init__(self, *options):
        self.profile = tempfile.mkdtemp(prefix="browser")
        to_browser, self.writer = os.pipe()
        self.reader, from_browser = os.pipe()
        command = [CHROMIUM, *OPTIONS, *options, f"--user-data-dir={self.profile}", "about:blank"]
        self.process = subprocess.Popen(
            # The browser reads commands from 3 and writes to 4.
            ["/bin/bash", "-c", f'exec "$@" 3<&{to_browser} 4>&{from_browser}', "browser", *command],
            pass_fds=(to_browser, from_browser), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_browser)
        os.close(from_browser)
        self.rest, self.last, self.events = b"", 0, []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self.call("Browser.close", whole=True)
        self.process.wait(30)
        os.close(self.writer)
        os.close(self.reader)
        shutil.rmtree(self.profile, ignore_errors=True)

    def call(self, method, *, whole=False, **arguments):
        """Send a command and return its result, which must not be an error."""
        answer = self.ask(method, whole=whole, **arguments)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def ask(self, method, *, whole=False, **arguments):
        """Send a command and wait for its answer; events that come meanwhile are kept."""
        self.last += 1
        message = {"id": self.last, "method": method, "params": arguments}
        if getattr(self, "session", None) and not whole:
            message["sessionId"] = self.session
        os.write(self.writer, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.receive()
            if answer.get("id") == self.last:
                return answer
            self.events.append(answer)

    def receive(self):
        parts = [self.rest]
        while b"\0" not in parts[-1]:
            parts.append(os.read(self.reader, 1 << 20))
            if not parts[-1]:
                raise OSError("the browser has ended")
        line, _, self.rest = b"".join(parts).partition(b"\0")
        return json.loads(line)

    def open(
        self, path, *, width=1400, height=900, dark=False, until="document.readyState === 'complete'", fragment=""
    ):
        """Load a file and wait until an expression is true; return the seconds that took."""
        self.events.clear()
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=features)
        # A page of the same address with another fragment would not be loaded again.
        self.call("Page.navigate", url="about:blank")
        start = time.monotonic()
        self.call("Page.navigate", url=Path(path).resolve().as_uri() + fragment)
        self.wait(f"location.protocol === 'file:' && ({until})")
        return time.monotonic() - start

    def wait(self, expression, seconds=300):
        end = time.monotonic() + seconds
        # While a page is coming, what it shall have may not be there; and a page that
        # leaves while it is asked gives an error for an answer.
        asked = f"(() => {{ try {{ return !!({expression}); }} catch {{ return false; }} }})()"
        while True:
            answer = self.ask("Runtime.evaluate", expression=asked, returnByValue=True)
            if answer.get("result", {}).get("result", {}).get("value"):
                return
            assert time.monotonic() < end, f"never true: {expression}; {self.troubles()}"
            time.sleep(0.02)

    def run(self, expression):
        """Evaluate an expression, promises included."""
        done = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def screenshot(self, *, whole=True):
        """A PNG of the page, or of what of it is on the screen."""
        return base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"])

    def paper(self):
        """A PDF of the page as it is printed."""
        return base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"])

    def troubles(self):
        """What the page has to complain of: errors, and requests that failed or went anywhere but to itself."""
        found = []
        for event in self.events:
            method, said = event.get("method"), event.get("params", {})
            if method == "Runtime.exceptionThrown":
                found.append(said["exceptionDetails"].get("exception", said["exceptionDetails"]))
            elif method == "Runtime.consoleAPICalled" and said["type"] in ("error", "assert", "warning"):
                found.append(said["args"])
            elif method == "Log.entryAdded" and said["entry"]["level"] == "error":
                found.append(said["entry"]["text"])
            elif method == "Network.loadingFailed":
                found.append(said)
            elif method == "Network.requestWillBeSent" and said["type"] != "Document":
                address = said["request"]["url"]
                found += [] if address.startswith("data:") else [address]
        return found


def decide(browser, **chosen):
    """Fill a patient's form for decisions as a reader does, and add the decision."""
    for name, value in chosen.items():
        browser.run(
            f"(e => {{ e.value = {value!r}; e.dispatchEvent(new Event('change', {{bubbles: true}})); }})"
            f"(document.querySelector('.decide').elements[{name!r}])"
        )
    browser.run("document.querySelector('.decide button').click()")
