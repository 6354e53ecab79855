"""Reports show packages and model files on a terminal, and as JSON-ready data."""

from collections.abc import Mapping
from typing import Any

from rich import markup
from rich.console import Console
from rich.table import Table

from foretell.core.field import Field, spoken
from foretell.core.manifest import Step
from foretell.engine.repository import Package, verify


def printable(text: object) -> str:
    """`text` without control characters: a terminal obeys them, and packages come from anywhere."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in str(text))


def escape(text: object) -> str:
    """`text` as it is, for rich: no markup, no control characters."""
    return markup.escape(printable(text))


def describe(package: Package, *, verified: bool = False) -> dict[str, Any]:
    """What a package says about itself. With `verified`, digests are checked: BadPackage."""
    if verified:
        verify(package)
    manifest = package.manifest
    return {
        "package": str(package.folder),
        "name": manifest.name,
        "version": manifest.version,
        "created_at": manifest.created_at,
        "steps": [_described(step) for step in manifest.steps],
        "bulk": None if manifest.bulk is None else _described(manifest.bulk),
        "signature": manifest.signature.describe(),
        "files": [
            {"path": file.path, "sha256": file.sha256, "size": file.size} for file in manifest.files
        ],
        "libraries": dict(manifest.libraries),
        "trusted": manifest.trusted,
        "compile_report": manifest.compile_report,
        "metadata": dict(manifest.metadata),
        "windows": None if manifest.windows is None else manifest.windows.describe(),
    }


def _described(step: Step) -> dict[str, Any]:
    return {"runtime": step.runtime, "files": list(step.files), "options": dict(step.options)}


def show_package(console: Console, package: Package) -> None:
    """Print a package for people."""
    manifest = package.manifest
    signature = manifest.signature
    console.print(
        f"[bold]{escape(manifest.name)}[/] {escape(manifest.version)}  "
        f"[dim]{escape(manifest.created_at)}[/]"
    )
    for step in manifest.steps:
        files = ", ".join(step.files)
        console.print(f"  {escape(step.runtime)}: {escape(files)}")
    if manifest.bulk is not None:
        console.print(
            f"  in bulk, {escape(manifest.bulk.runtime)}: {escape(', '.join(manifest.bulk.files))}"
        )
    if manifest.trusted:
        console.print("  [yellow]packed with --trust: loading it runs its maker's code[/]")
    examples = signature.example or ("",) * len(signature.inputs)
    table = Table("input", "type", "takes", "example", box=None, padding=(0, 3, 0, 2))
    for field, example in zip(signature.inputs, examples, strict=True):
        table.add_row(*map(escape, (field.name, field.datatype, _takes(field), str(example))))
    console.print(table)
    for field in signature.outputs:
        shape = " x ".join(map(str, field.shape))
        console.print(
            f"  gives {escape(field.name)}: {field.datatype}" + (f" [{shape}]" if shape else "")
        )
    if manifest.windows is not None:
        names = ", ".join(feature.name for feature in manifest.windows.features)
        console.print(f"  a stream fills from the recent past: {escape(names)}")
    if signature.class_labels is not None:
        labels = ", ".join(str(label) for label in signature.class_labels[:20])
        console.print(f"  classes: {escape(labels)}")
    if manifest.compile_report is not None:
        _show_compilation(console, manifest.compile_report)
    for file in manifest.files:
        console.print(
            f"  [dim]{escape(file.path)}  {file.size} bytes  sha256 {file.sha256[:16]}…[/]"
        )


def _show_compilation(console: Console, report: Mapping[str, Any]) -> None:
    chosen = report.get("chosen")
    if chosen is None:
        console.print(f"  not compiled: {escape(report.get('reason'))}")
    else:
        console.print(f"  compiled: {escape(chosen)}, proven within {report.get('tolerance')}")
    for one in report.get("candidates", ()):
        console.print(f"    {escape(one.get('name'))}: {escape(_result(one))}")
    if report.get("bulk") is not None:
        console.print(f"    in bulk: {escape(_result(report['bulk']))}")


def _result(one: Mapping[str, Any]) -> str:
    """What became of a candidate, or of the form for many rows."""
    words = [] if one.get("error") is None else [str(one["error"])]
    if one.get("max_error") is not None:
        points = sum((one.get("points") or {}).values())
        words.append(f"max error {one['max_error']:.1e} on {points} points")
    if one.get("speed_up"):
        speeds = ", ".join(f"{value:.1f}x" for value in one["speed_up"].values())
        words.append(f"{speeds} as fast at {', '.join(one['speed_up'])} rows")
    if one.get("lost") is not None:
        words.append(f"lost: {one['lost']}")
    return "; ".join(words)


def _takes(field: Field) -> str:
    words = field.expected
    if field.categories:
        shown = ", ".join(spoken(value) for value in field.categories[:4])
        more = ", …" if len(field.categories) > 4 else ""
        words += f" ({'one of' if field.closed else 'as'} {shown}{more})"
    return words


def show_file(console: Console, inspection: Mapping[str, Any]) -> None:
    """Print the inspection of a raw model file for people."""
    for key, value in inspection.items():
        if value in (None, [], {}, ()):
            continue
        words = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        style = "bold red" if key == "refused" else "bold"
        console.print(f"[{style}]{escape(key.replace('_', ' '))}[/]: {escape(words)}")
