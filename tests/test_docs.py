"""What the documents say is what the code does."""

from __future__ import annotations

import contextlib
import importlib
import re
import shlex
import typing
from pathlib import Path

import pytest
import typer

from scripts import json_contract
from sneaker.caps import MAIN_NETWORK_KEY
from sneaker.cli import commands
from sneaker.cli.app import app
from sneaker.errors import ExitCode, SneakerError
from sneaker.feed.classic.message import create_message
from sneaker.home import config_file
from sneaker.keys import Keypair
from sneaker.wire.address import net_address
from sneaker.wire.beacon import encode_normal
from sneaker.wire.boxstream import Boxer
from sneaker.wire.handshake import ClientAuthenticated, ClientHandshake, ServerHandshake
from sneaker.wire.muxrpc.packets import encode_packet
from tests.command_line import sneaker
from tests.test_layers import FLOORS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDE = ROOT / "sneaker" / "guide"
EXIT_CODES = GUIDE / "exit-codes.md"


def error_classes() -> list[type[SneakerError]]:
    """Return every class of the tree, ordered by exit code."""
    found: list[type[SneakerError]] = []
    waiting: list[type[SneakerError]] = [SneakerError]
    while waiting:
        cls = waiting.pop()
        found.append(cls)
        waiting.extend(cls.__subclasses__())
    return sorted(set(found), key=lambda cls: cls.exit_code)


def exit_code_table() -> str:
    rows = ["| code | name | meaning |", "|---:|---|---|"]
    rows.append(f"| {ExitCode.DONE.value} | | done |")
    rows.append(f"| {ExitCode.BUG.value} | | a bug in sneaker |")
    seen = {}
    for cls in error_classes():
        if cls.exit_code == 4:
            rows.append(
                f"| {ExitCode.PARTIAL.value} | | finished, but something was refused or damaged; the report says what |"
            )
        rows.append(f"| {cls.exit_code} | `{cls.code}` | {cls.meaning} |")
        assert cls.exit_code not in seen, f"{cls.__name__} and {seen[cls.exit_code]} share exit code {cls.exit_code}"
        seen[cls.exit_code] = cls.__name__
    return "\n".join(rows)


def test_exit_codes_are_those_of_the_code() -> None:
    page = EXIT_CODES.read_text(encoding="utf-8")
    shown = page.split("<!-- exit codes: from the code, a test compares -->\n")[1].split("\n<!-- end -->")[0]
    assert shown == exit_code_table(), "run: .venv/bin/python -m tests.test_docs"


def test_every_error_can_happen() -> None:
    code = "".join(path.read_text() for path in ROOT.glob("sneaker/**/*.py") if path.name != "errors.py")
    for cls in error_classes():
        assert cls.__subclasses__() or re.search(rf"\b{cls.__name__}\b", code), f"nobody raises {cls.__name__}"


def test_the_contract_of_json_is_that_of_the_code() -> None:
    assert json_contract.PAGE.read_text(encoding="utf-8") == json_contract.page(), "run: scripts/make-json-contract"


def test_errors_have_codes_of_their_own() -> None:
    classes = error_classes()
    assert len({cls.code for cls in classes}) == len(classes)
    assert len({cls.exit_code for cls in classes}) == len(classes)
    assert all(cls.exit_code not in (0, 1, 3) and cls.meaning for cls in classes)


def test_the_readme_is_short() -> None:
    lines = README.splitlines()
    assert len(lines) <= 120
    assert [line for line in lines if len(line) > 100] == []


PAGES = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")]
PAGES += [*sorted(GUIDE.glob("*.md")), *sorted((ROOT / "sneaker").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), f"{page.name} leads to {target}"


def test_the_readme_leads_to_every_page_of_the_guide() -> None:
    assert set(re.findall(r"sneaker/guide/([a-z-]+)\.md", README)) == {page.stem for page in GUIDE.glob("*.md")}


def test_the_changelog_has_the_usual_headings() -> None:
    page = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.*)$", page, re.MULTILINE)[0] == "[Unreleased]"
    kinds = re.findall(r"^### (.*)$", page, re.MULTILINE)
    assert kinds
    assert set(kinds) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_every_command_is_in_the_list() -> None:
    documented = set()
    page = (GUIDE / "commands.md").read_text(encoding="utf-8")
    for row in re.findall(r"^\| (`sneaker .*?) \|", page, re.MULTILINE):
        documented |= set(re.findall(r"`(?:sneaker )?([a-z]+)", row))
    assert set(commands.MODULES) == documented


@pytest.mark.parametrize("name", commands.MODULES)
def test_every_command_and_option_has_help(name: str) -> None:
    group = typer.main.get_command(app)
    command = group.commands[name]  # type: ignore[attr-defined]
    assert command.help
    assert len(command.help.splitlines()[0]) <= 62, "the first line stands in the list of commands"
    for parameter in command.params:
        assert getattr(parameter, "help", None), f"{name}: {parameter.name} has no help"


def test_commands_with_json_are_those_that_the_page_names() -> None:
    group = typer.main.get_command(app)
    listed = {**group.commands, **group.commands["drive"].commands}  # type: ignore[attr-defined]
    without = {name for name, command in listed.items() if not any(p.name == "json" for p in command.params)}
    assert without == {"call", "drive", "peer"}  # "drive" alone is no command


def test_settings_are_those_of_the_code() -> None:
    page = (GUIDE / "settings.md").read_text(encoding="utf-8")
    shown = re.findall(r"`([a-z]+\.[a-z_]+)`", "".join(re.findall(r"^\| (`.*?) \|", page, re.MULTILINE)))
    sections = typing.get_type_hints(config_file.File)
    settings = {f"{name}.{setting}" for name, section in sections.items() for setting in section.__struct_fields__}
    assert sorted(shown) == sorted(settings)


@pytest.mark.parametrize("page", ["README.md", "sneaker/guide/sticks.md", "sneaker/guide/bundles.md"])
def test_lines_of_the_pages_are_commands(page: str, tmp_path: Path) -> None:
    """Each 'sneaker ...' line of a page's blocks runs, in order, in a fresh home with a folder for the stick."""
    stick = tmp_path / "STICK"
    stick.mkdir()
    lines = re.findall(r"^    (sneaker .*)$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
    assert lines
    for line in lines if page == "README.md" else ["sneaker init", *lines]:
        words = [word.replace("/media/me/STICK", str(stick)) for word in shlex.split(line, comments=True)[1:]]
        done = sneaker(*words, at=tmp_path / "home", ok=False, cwd=tmp_path)
        assert done.code == 0, f"{line}: {done.err}"


def test_specification_names_the_limits_of_the_code() -> None:
    from sneaker import limits
    from sneaker.bundle import frames as bundle_format
    from sneaker.bundle import message_records as messages

    page = (ROOT / "bundles-format.md").read_text(encoding="utf-8")
    assert f"| payload | {bundle_format.MAX_PAYLOAD_BYTES >> 20} MiB |" in page
    assert f"| messages in a record | {messages.MAX_RECORD_MESSAGES:,} |" in page
    assert f"| one message | {limits.MAX_MESSAGE_BYTES:,} bytes |" in page
    assert f"| feeds in a clock or index | {limits.MAX_CLOCK_FEEDS:,} |" in page


def test_sections_of_the_specification_that_the_code_names_are_there() -> None:
    page = (ROOT / "bundles-format.md").read_text(encoding="utf-8")
    sections = set(re.findall(r"^## [0-9]+\. (.*)$", page, re.MULTILINE))
    found = set()
    for path in ROOT.glob("sneaker/**/*.py"):
        text = path.read_text(encoding="utf-8")
        for cited in re.findall(r'``bundles-format\.md``[\s(,]+(?:sections )?("[^)]*?")\)', text):
            named = set(re.findall(r'"([^"]+)"', cited))
            assert named <= sections, f"{path} names sections that are not there: {cited}"
            found |= named
    assert len(found) > 8


#: The field's own words that look like a module of ours.
NO_MODULES = {"caps.sign"}


def test_modules_that_docstrings_name_are_there() -> None:
    package = ROOT / "sneaker"
    rooms = {path.name.removesuffix(".py") for path in package.iterdir() if path.suffix in ("", ".py")}
    for path in package.glob("**/*.py"):
        for name in re.findall(
            r"``(?:sneaker\.)?([a-z_]+(?:\.[A-Za-z_]+)+)(?:\(\))?``", path.read_text(encoding="utf-8")
        ):
            parts = name.split(".")
            if parts[0] in rooms and name not in NO_MODULES:
                assert is_there(parts), f"{path} names {name}"


def is_there(parts: list[str]) -> bool:
    """Whether a module of ours has that name, or what is in one."""
    found: object = None
    for count in range(1, len(parts) + 1):
        with contextlib.suppress(ImportError):
            found = importlib.import_module(".".join(["sneaker", *parts[:count]]))
            continue
        if not hasattr(found, parts[count - 1]):
            return False
        found = getattr(found, parts[count - 1])
    return True


def _threat_sentences() -> list[str]:
    page = (ROOT / "sneaker" / "guide" / "threat-model.md").read_text(encoding="utf-8")
    return re.findall(r"^[-*] (.*?)(?=^[-*#] |^#|\n\n|\Z)", page, re.MULTILINE | re.DOTALL)


def _readme_promises() -> list[str]:
    return re.findall(r"^\* (\*\*.*?)(?=^\* |\n\n)", README, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("sentences", [_threat_sentences(), _readme_promises()], ids=["threat model", "README"])
def test_each_promise_names_tests_that_are_there(sentences: list[str]) -> None:
    """A promise that nothing tests is a hope; each bullet ends in ``<!-- test: FILE::NAME ... -->``."""
    assert len(sentences) >= 5
    for sentence in sentences:
        named = re.search(r"<!-- test: (.*?) -->\s*\Z", sentence, re.DOTALL)
        assert named is not None, f"no test holds this: {sentence}"
        for test in named[1].split():
            file, _, name = test.partition("::")
            source = (ROOT / "tests" / file).read_text(encoding="utf-8")
            assert re.search(rf"^ *(async )?def {re.escape(name)}\(", source, re.MULTILINE), f"there is no {test}"


HOUSE = (ROOT / "sneaker" / "README.md").read_text(encoding="utf-8")


def test_the_drawing_of_the_house_has_the_floors_of_the_layers() -> None:
    drawing = HOUSE.split("```text\n")[1].split("```")[0]
    above, below = (part.splitlines() for part in re.split(r"^-+\n", drawing, flags=re.MULTILINE))
    drawn = [set(line.split()) for line in [*above, *below]]
    drawn[-2:] = [drawn[-2] | drawn[-1]]  # the ground floor takes two lines
    floors = [set(rooms) for rooms in FLOORS if rooms != ("__main__",)]
    assert drawn[::-1] == floors
    assert len(below) == 4, "the line stands above the pure floors"


def test_the_house_has_a_sentence_for_each_room() -> None:
    described = set(re.findall(r"^\| `(\w+)/?` \| \S", HOUSE, re.MULTILINE))
    ground = re.findall(r"^\| level 0 \| (.*?):", HOUSE, re.MULTILINE)
    described |= set(re.findall(r"`(\w+)`", ground[0]))
    rooms = {path.name.removesuffix(".py") for path in (ROOT / "sneaker").iterdir() if path.suffix in ("", ".py")}
    assert described == rooms - {"__init__", "__main__", "__pycache__"}


@pytest.mark.parametrize("page", ["sneaker/README.md", "CONTRIBUTING.md"])
def test_files_that_the_pages_name_are_there(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for name in re.findall(r"`((?:[\w.-]+/)*[\w.-]+(?:\.py|\.md|\.toml|/))`", text):
        assert any((place / name).exists() for place in (ROOT, ROOT / "sneaker")), f"{page} names {name}"


PROTOCOL = (ROOT / "sneaker" / "PROTOCOL.md").read_text(encoding="utf-8")


def test_the_protocol_page_has_each_section_that_is_pointed_to() -> None:
    sections = set(re.findall(r"^##+ ([0-9.]+) ", PROTOCOL, re.MULTILINE))
    found = 0
    for path in [*ROOT.glob("sneaker/**/*.py"), *ROOT.glob("tests/**/*.py"), *ROOT.glob("sneaker/**/*.md")]:
        text = path.read_text(encoding="utf-8")
        for cited in re.findall(r"PROTOCOL\.md,?\s+(?:#\s+)?sections?\s+([0-9.]+(?:(?: and|,| to)\s+[0-9.]+)*)", text):
            numbers = {number.rstrip(".") for number in re.findall(r"[0-9.]+", cited)}
            assert numbers <= sections, f"{path} points to a section that is not there: {cited}"
            found += 1
    assert found >= 20


def test_sections_of_the_protocol_page_that_point_to_each_other() -> None:
    sections = set(re.findall(r"^##+ ([0-9.]+) ", PROTOCOL, re.MULTILINE))
    pointed = re.findall(r"\(([0-9]+\.[0-9])\)|[Ss]ection\s+([0-9]+(?:\.[0-9]+)?)", PROTOCOL)
    assert {number for pair in pointed for number in pair if number} <= sections


def test_values_of_the_protocol_page_are_what_the_code_computes() -> None:
    """The page's own values, which somebody else may check an implementation by."""
    client, server = Keypair.from_seed(b"\1" * 32), Keypair.from_seed(b"\2" * 32)
    text = PROTOCOL.split("```json\n")[1].split("\n```")[0].encode("utf-8")
    message = create_message(client, None, 1_600_000_000_000, {"type": "post", "text": "caf\xe9 \u0141"})
    assert text == message.text
    assert f"Its id is `{message.key}`." in PROTOCOL

    dialling = ClientHandshake(MAIN_NETWORK_KEY, client, server.public, b"\3" * 32)
    answering = ServerHandshake(MAIN_NETWORK_KEY, server, b"\4" * 32)
    values = {}
    for number in (1, 2, 3, 4):
        sender, receiver = (dialling, answering) if number % 2 else (answering, dialling)
        values[f"message {number}"] = data = sender.data_to_send()
        receiver.receive_data(data)
        event = receiver.next_event()
        if isinstance(event, ClientAuthenticated):
            answering.accept_client()
    assert dialling.done is not None
    keys = dialling.done.keys
    values["client to server, key"], values["client to server, nonce"] = keys.encrypt_key, keys.encrypt_nonce
    values["server to client, key"], values["server to client, nonce"] = keys.decrypt_key, keys.decrypt_nonce
    boxer = Boxer(keys.encrypt_key, keys.encrypt_nonce)
    packet = encode_packet(1, b'{"name":["whoami"],"args":[],"type":"async"}')
    values["muxrpc: the request whoami"] = packet
    values["the same, boxed"] = boxer.box(packet)
    values["goodbye after it"] = boxer.goodbye()
    address = net_address("192.168.1.2", 8008, client.public)
    assert f"`{address}`" in PROTOCOL
    values["LAN packet"] = encode_normal((address,), MAIN_NETWORK_KEY, client)
    shown = PROTOCOL.partition("\n## 20 ")[2]
    found = re.findall(r"^(\S[^\n]*):\n((?:    [0-9a-f]+\n)+)", shown, re.MULTILINE)
    assert {name: bytes.fromhex(lines) for name, lines in found} == values


if __name__ == "__main__":
    before, _, rest = EXIT_CODES.read_text(encoding="utf-8").partition(
        "<!-- exit codes: from the code, a test compares -->\n"
    )
    after = rest.partition("<!-- end -->")[2]
    text = f"{before}<!-- exit codes: from the code, a test compares -->\n{exit_code_table()}\n<!-- end -->{after}"
    EXIT_CODES.write_text(text, encoding="utf-8")
