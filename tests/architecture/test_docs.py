"""The documents say what is there: rooms, links, commands, settings, files and names.

What a document names in `code` is held against the code, so that a page cannot go on telling of
what was renamed or removed.
"""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest
from django.core.management import get_commands

from esp.stack.checks import ROOT
from sending.management.commands import seed_demo
from tests import make
from tests.cast import Cast

DOCS = ROOT / "docs"
AT_THE_TOP = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
PAGES = [*(ROOT / name for name in AT_THE_TOP), *sorted(DOCS.rglob("*.md"))]
FLOORS = ("tenants", "deliverability", "sending")
SHELVES = ("console", "stack", "simulator", "kit", "lib")
# Where a name that a page mentions may come from.
SOURCES = [
    *(path for floor in (*FLOORS, "esp", "tests") for path in (ROOT / floor).rglob("*.py")),
    *(ROOT / "esp" / "stack").glob("*.s*"),
    *(path for path in (ROOT / "deploy").rglob("*") if path.is_file()),
    *(ROOT / name for name in ("Makefile", "docker-compose.yml", "Dockerfile", ".ci/run")),
]
# Django's own, named to say that no variable fills it yet.
NAMES_OF_OTHERS = {"SECRET_KEY_FALLBACKS"}


def rooms() -> dict[str, Path]:
    """Return every room by name."""
    found = {name: ROOT / "esp" / name for name in SHELVES}
    for floor in FLOORS:
        for folder in (ROOT / floor).iterdir():
            if (folder / "__init__.py").is_file() and folder.name not in {
                "migrations",
                "management",
            }:
                found[folder.name] = folder
    return found


def page_id(path: Path) -> str:
    return str(path.relative_to(ROOT))


def code_in(text: str) -> list[str]:
    """Return what stands in `code` in a page's prose."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"`([^`\n]+)`", prose)


def slug(heading: str) -> str:
    """Return the anchor of a heading, as repository hosts make it."""
    kept = re.sub(r"[^\w\- ]", "", heading.replace("`", "").strip().lower())
    return kept.replace(" ", "-")


def anchors(path: Path) -> set[str]:
    return {slug(line.lstrip("#")) for line in path.read_text().splitlines() if line[:1] == "#"}


def links(path: Path) -> list[str]:
    targets = re.findall(r"\]\(([^)\s]+)\)", path.read_text())
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


@pytest.mark.parametrize("path", PAGES, ids=page_id)
def test_its_links_lead_somewhere(path: Path) -> None:
    assert path.is_file()
    for link in links(path):
        target, _, anchor = link.partition("#")
        there = (path.parent / target).resolve() if target else path
        if there.suffix == ".png":
            continue  # see the test of the pictures
        assert there.exists(), link
        if anchor:
            assert anchor in anchors(there), link


def test_every_picture_is_there_and_small() -> None:
    pictures = [
        (path.parent / link).resolve() for path in PAGES for link in links(path) if ".png" in link
    ]
    assert len(pictures) >= 5
    for picture in pictures:
        assert picture.is_file(), picture
        assert picture.stat().st_size < 300_000, picture


def test_every_room_has_a_page_and_every_page_a_room() -> None:
    pages = {path.stem for path in (DOCS / "rooms").glob("*.md")}
    assert pages == set(rooms())


def test_every_page_is_reached_from_the_index() -> None:
    reached = {(DOCS / link.partition("#")[0]).resolve() for link in links(DOCS / "index.md")}
    assert {path for path in DOCS.rglob("*.md") if path.name != "index.md"} - reached == set()


@pytest.mark.parametrize("room", sorted(rooms()))
def test_a_rooms_page_names_its_tables(room: str) -> None:
    models = rooms()[room] / "models.py"
    if not models.is_file() or room == "scoping":
        return
    page = (DOCS / "rooms" / f"{room}.md").read_text()
    for node in ast.parse(models.read_text()).body:
        if not isinstance(node, ast.ClassDef):
            continue
        bases = {ast.unparse(base) for base in node.bases}
        if bases & {"TenantModel", "HotTenantModel", "models.Model", "AbstractBaseUser"}:
            assert f"`{node.name}`" in page, node.name


@pytest.mark.parametrize("room", sorted(rooms()))
def test_a_rooms_page_names_what_is_there(room: str) -> None:
    """`services.send_campaign` on a page must be defined in the room's services."""
    folder = rooms()[room]
    checked = 0
    for code in code_in((DOCS / "rooms" / f"{room}.md").read_text()):
        match = re.match(r"([a-z_]+)\.([A-Za-z_]+)\b", code)
        if not match or match[2] in {"py", "sql", "sh", "toml", "env", "md", "test"}:
            continue
        module, name = match.groups()
        files = [folder / f"{module}.py", *(folder / module).glob("*.py")]
        source = "\n".join(file.read_text() for file in files if file.is_file())
        if not source:
            continue  # a task's name, a library, another room: not this test's
        assert re.search(
            rf"^\s*(?:async )?(?:def|class) {name}\b|^{name}\b\s*[:=]", source, re.MULTILINE
        ), code
        checked += 1
    assert checked or room in {"kit", "lib", "console", "stack", "rehearsal", "tracking"}


@pytest.mark.parametrize("path", PAGES, ids=page_id)
def test_the_files_that_it_names_exist(path: Path) -> None:
    tops = {"esp", "tenants", "deliverability", "sending", "docs", "tests", "deploy", "bench"}
    for code in code_in(path.read_text()):
        if re.fullmatch(r"[\w./-]+/[\w./-]*", code) and code.split("/")[0] in tops:
            assert (ROOT / code).exists(), code


@pytest.mark.parametrize("path", PAGES, ids=page_id)
def test_the_commands_that_it_names_exist(path: Path) -> None:
    text = path.read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    spans = [*code_in(text), *re.findall(r"^make [a-z-]+", text, re.MULTILINE)]
    for code in spans:
        for target in re.findall(r"\bmake ([a-z-]+)", code):
            assert target in targets, code
    for command in re.findall(r"manage\.py ([a-z_]+)", text):
        assert command in get_commands(), command


@pytest.mark.parametrize("path", PAGES, ids=page_id)
def test_the_variables_that_it_names_exist(path: Path) -> None:
    source = "\n".join(file.read_text() for file in SOURCES)
    for code in code_in(path.read_text()):
        if re.fullmatch(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+", code) and code not in NAMES_OF_OTHERS:
            assert re.search(rf"\b{code}\b", source), code


def test_every_setting_is_explained() -> None:
    code = (ROOT / "esp" / "settings" / "environment.py").read_text()
    read = set(re.findall(r"env\.\w+\(\s*\"([A-Z_]+)\"", code))
    assert len(read) > 20
    page = (DOCS / "settings.md").read_text()
    explained = set(re.findall(r"^\| `([A-Z_]+)` \|", page, re.MULTILINE))
    assert read - explained == set()


def test_documents_that_the_code_names_exist() -> None:
    for file in SOURCES:
        for name in re.findall(r"\bdocs/[\w/-]+\.md", file.read_text()):
            assert (ROOT / name).is_file(), (file, name)


def test_the_sign_ins_of_the_readme_are_the_demos() -> None:
    readme = (ROOT / "README.md").read_text()
    assert f"`{seed_demo.PASSWORD}`" in readme
    for email, _name, _slug, role in seed_demo._PEOPLE:
        assert re.search(rf"`{re.escape(email)}` \| {role.label} ", readme), email
    assert f"`{seed_demo._OPERATOR}` | Operator" in readme


def test_the_call_in_the_readme_is_accepted(cast: Cast) -> None:
    body = re.search(r"-d '(\{.*?\})'$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    assert body
    make.domain(cast.acme, "acme.example")
    api = make.api(cast.acme, scopes=["messages:send"])
    answer = api.post("/api/v1/messages", json.loads(body[1]))
    assert answer.status_code == 202, answer.content
