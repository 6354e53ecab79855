"""The front page says what is served here and how to ask, in one self-contained HTML page."""

import json
from html import escape

from foretell.core.call import Target
from foretell.core.field import Field
from foretell.engine.fleet import Fleet, Loaded

PAGE_HEADERS = {
    "content-security-policy": "frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
"""What pages tell browsers: no other site may frame them, or learn their addresses."""

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --ink: #2257c4 }
@media (prefers-color-scheme: dark) { :root { --ink: #8ab4ff } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem;
       margin: 3rem auto; padding: 0 1.2rem }
h1 { font-size: 1.6rem; margin: 0 } h2 { font-size: 1.15rem; margin: 0 0 .3rem }
a { color: var(--ink) } nav a { margin-right: 1.2rem } nav { margin: .4rem 0 2rem }
section { border: 1px solid var(--line); border-radius: .6rem;
          padding: 1rem 1.2rem; margin: 1rem 0 }
pre { background: var(--soft); padding: .8rem; border-radius: .4rem;
      overflow-x: auto; font-size: .82rem }
table { border-collapse: collapse; font-size: .9rem } details { margin-top: .6rem }
td, th { text-align: left; padding: .15rem 1.2rem .15rem 0;
         border-bottom: 1px solid var(--line) }
small { opacity: .7 }
"""


def render(fleet: Fleet, base_url: str) -> str:
    """The page for what `fleet` has loaded; `base_url` (with its last slash) leads to it."""
    sections = "".join(_section(fleet, name, base_url) for name in fleet.models)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Foretell</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>{_STYLE}</style></head><body>
<h1>Foretell</h1>
<nav><a href="docs">API docs</a><a href="openapi.json">OpenAPI</a><a href="models">models</a>
<a href="health">health</a></nav>
{sections or "<p>No model is loaded.</p>"}
</body></html>
"""


def _section(fleet: Fleet, name: str, base_url: str) -> str:
    routed = fleet.resolve(Target(name))
    versions = ", ".join(escape(version) for version in fleet.models[name])
    default = " <small>(the default model)</small>" if name == fleet.default_model else ""
    rows = "".join(_row(field) for field in routed.signature.inputs)
    return f"""<section><h2><a href="models/{escape(name)}">{escape(name)}</a>{default}</h2>
<small>versions, newest first: {versions}</small>
{_curl(fleet, routed, base_url)}
<details><summary>{len(routed.signature.inputs)} inputs</summary>
<table><tr><th>name</th><th>takes</th></tr>{rows}</table></details></section>"""


def _curl(fleet: Fleet, loaded: Loaded, base_url: str) -> str:
    row = loaded.signature.example
    if row is None:
        return ""
    path = "predict" if loaded.name == fleet.default_model else f"models/{loaded.name}/predict"
    example = json.dumps(dict(zip(loaded.signature.input_names, row, strict=True)))
    quoted = example.replace("'", "'\\''")
    return (
        f"<pre>curl {escape(base_url)}{escape(path)} -H 'Content-Type: application/json' \\\n"
        f"  -d '{escape(quoted, quote=False)}'</pre>"
    )


def _row(field: Field) -> str:
    return f"<tr><td>{escape(field.name)}</td><td>{escape(field.expected)}</td></tr>"
