"""A miniature checkout of the benchmark's code, in wordings of our own, and what a `.git` folder holds."""

from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FAMILIES = (
    "ruler_qa",
    "longmemeval",
    "eventqa",
    "in_context_learning",
    "recsys_redial",
    "infbench_sum",
    "detective_qa",
    "factconsolidation",
)
AGENTS = ("long_context_agent", "rag_agent", "agentic_memory_agent")


def family(name: str, **changes: str) -> str:
    """One family's entry as Python source. changes: source of a template by its key or kind of agent."""
    made = {
        "system": "OPENING",
        "memorize": f"'Noted {{time_stamp}}\\\\n[me] these are {name}: \\n{{context}}\\n [you] kept.'",
        "long_context_agent": f'"Reply to {name}, " "as short as can be. {{question}} =>"',
        "rag_agent": f'"Look it up in {name}: " + "{{question}} =>"',
        "agentic_memory_agent": 'f"{SEARCH} {{question}} =>"',
        **changes,
    }
    queries = ", ".join(f"'{agent}': {made[agent]}" for agent in AGENTS)
    head = f"'system': {made['system']}, 'memorize': {made['memorize']}"
    return f"    '{name}': {{{head}, 'query': {{{queries}}}}},\n"


def source(**changed: dict[str, str]) -> str:
    """The templates file. changed: templates that differ, by family."""
    entries = "".join(family(name, **changed.get(name, {})) for name in FAMILIES)
    return (
        '"""Templates."""\nimport datetime\n\nOPENING = "You keep notes."\nSEARCH: str = "Search first."\n'
        f"BASE_TEMPLATES = {{\n{entries}}}\nNOW = datetime.datetime.now()\n\n"
        "def get_template(name):\n    return BASE_TEMPLATES[name]\n"
    )


LABEL = '"Only \\"label: {{label}}\\". {question}"'  # as the benchmark has it: the braces are printed


def write_checkout(folder: Path, text: str | None = None, commit: str | None = COMMIT) -> Path:
    """The checkout's folder. text: of the templates file; commit: that `.git` tells, None for no `.git`."""
    (folder / "utils").mkdir(parents=True, exist_ok=True)
    file = folder / "utils" / "templates.py"
    file.write_text(source(in_context_learning={"long_context_agent": LABEL}) if text is None else text)
    if commit is not None:
        (folder / ".git" / "refs" / "heads").mkdir(parents=True, exist_ok=True)
        (folder / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
        (folder / ".git" / "refs" / "heads" / "main").write_text(f"{commit}\n")
    return folder
