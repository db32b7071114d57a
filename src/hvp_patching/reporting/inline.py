"""The LaTeX that table cells and captions use, as HTML; anything else is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import escape as plain
from types import MappingProxyType

from hvp_patching.reporting.latex import Tex
from hvp_patching.reporting.results import ReportError

SYMBOLS = MappingProxyType(
    {
        **{f"\\{c}": c for c in r"%$#_{}"},
        r"\&": "&amp;",
        r"\ ": " ",
        r"\,": "\u2009",
        r"\;": "\u2005",
        r"\:": "\u2005",
        r"\!": "",
        r"\-": "\u00ad",
        r"\|": "‖",
        r"\textbackslash": "\\",
        r"\textasciitilde": "~",
        r"\textasciicircum": "^",
        r"\textless": "&lt;",
        r"\textgreater": "&gt;",
        r"\textbar": "|",
        r"\textendash": "–",
        r"\textemdash": "—",
        r"\star": "★",
        r"\circ": "○",
        r"\times": "×",
        r"\cdot": "·",
        r"\pm": "±",
        r"\infty": "∞",
        r"\le": "≤",
        r"\leq": "≤",
        r"\ge": "≥",
        r"\geq": "≥",
        r"\approx": "≈",
        r"\neq": "≠",
        r"\in": "∈",
        r"\to": "→",
        r"\rightarrow": "→",
        r"\uparrow": "↑",
        r"\downarrow": "↓",
        r"\sum": "∑",
        r"\int": "∫",
        r"\prod": "∏",
        r"\nabla": "∇",
        r"\partial": "∂",
        r"\top": "⊤",
        r"\ell": "ℓ",
        r"\dots": "…",
        r"\ldots": "…",
        r"\log": "log",
        r"\max": "max",
        r"\min": "min",
        r"\checkmark": "✓",
        r"\dagger": "†",
        r"\ddagger": "‡",
        r"\alpha": "α",
        r"\beta": "β",
        r"\gamma": "γ",
        r"\delta": "δ",
        r"\Delta": "Δ",
        r"\epsilon": "ε",
        r"\varepsilon": "ε",
        r"\eta": "η",
        r"\theta": "θ",
        r"\kappa": "κ",
        r"\lambda": "λ",
        r"\mu": "μ",
        r"\pi": "π",
        r"\rho": "ρ",
        r"\sigma": "σ",
        r"\Sigma": "Σ",
        r"\tau": "τ",
        r"\phi": "φ",
        r"\varphi": "φ",
        r"\Phi": "Φ",
        r"\psi": "ψ",
        r"\omega": "ω",
    }
)
# with one argument: what stands before and after it
WRAPS = MappingProxyType(
    {
        r"\textbf": ("<b>", "</b>"),
        r"\mathbf": ("<b>", "</b>"),
        r"\textit": ("<i>", "</i>"),
        r"\emph": ("<em>", "</em>"),
        r"\texttt": ("<code>", "</code>"),
        r"\mathrm": ('<span class="up">', "</span>"),
        r"\mathsf": ('<span class="up">', "</span>"),
        r"\operatorname": ('<span class="up">', "</span>"),
        r"\text": ('<span class="up">', "</span>"),
        r"\rlap": ('<span class="mark">', "</span>"),
        r"\mbox": ("", ""),
        r"\textsuperscript": ("<sup>", "</sup>"),
        r"\textsubscript": ("<sub>", "</sub>"),
    }
)
# from here to the end of the group
SWITCHES = MappingProxyType(
    {
        r"\scriptsize": ("<small>", "</small>"),
        r"\footnotesize": ("<small>", "</small>"),
        r"\small": ("", ""),
        r"\ttfamily": ("<code>", "</code>"),
        r"\bfseries": ("<b>", "</b>"),
        r"\itshape": ("<i>", "</i>"),
    }
)
ACCENTS = MappingProxyType({r"\hat": "\u0302", r"\bar": "\u0304", r"\tilde": "\u0303"})
NOTHING = frozenset({r"\raggedright", r"\allowbreak", r"\par", r"\noindent", r"\strut"})
TOKEN = re.compile(r"\\[A-Za-z]+\*?[ ]*|\\.|[{}$^_~]|---?|[^\\{}$^_~\-]+|-", re.S)
LENGTH = re.compile(r"[ ]*-?[\d.]+[ ]*(?:pt|em|ex|mm|cm)(?:[ ]*(?:plus|minus)[ ]*[\d.]+\w+)*")


def to_html(text: str) -> str:
    """A cell or sentence as HTML: plain text escaped, ``Tex`` read.

    Raises ``ReportError`` naming a command that no HTML is known for, and for unbalanced braces.
    """
    if not isinstance(text, Tex):
        return plain(text, quote=False)
    return _Reader(text).read()


class _Reader:
    """Reads one text, token by token."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.place = 0
        self.maths = False

    def read(self) -> str:
        html = self._group(end="")
        return re.sub(r"\s+", lambda m: " " if m[0].isascii() else m[0], html).strip()

    def _fail(self, why: str) -> ReportError:
        return ReportError(f"no HTML for the LaTeX text {str(self.text)!r}: {why}")

    def _next(self) -> str:
        match = TOKEN.match(self.text, self.place)
        if match is None:
            return ""
        self.place = match.end()
        return match[0]

    def _group(self, end: str) -> str:
        """Everything up to ``end``, with the switches that stand in it closed."""
        parts: list[str] = []
        after = ""
        while True:
            token = self._next()
            if token == end:
                return "".join(parts) + after
            if token in {"", "}"}:
                raise self._fail("its braces or dollar signs do not match")
            if token.strip() in SWITCHES:
                before, closing = SWITCHES[token.strip()]
                parts.append(before)
                after = closing + after
            else:
                parts.append(self._piece(token))

    def _argument(self) -> str:
        """The next group, or a single character or command."""
        while self.text[self.place : self.place + 1] == " ":
            self.place += 1
        first = self.text[self.place : self.place + 1]
        if first in {"\\", "{"}:
            return self._piece(self._next())
        if not first:
            raise self._fail("a command lacks its argument")
        self.place += 1
        return self._letters(first)

    def _piece(self, token: str) -> str:
        single: dict[str, Callable[[], str]] = {
            "{": lambda: self._group("}"),
            "$": self._formula,
            "~": lambda: "\u00a0",
            "---": lambda: "—",
            "--": lambda: "–",
            "-": lambda: "−" if self.maths else "-",
            "^": lambda: f"<sup>{self._argument()}</sup>",
            "_": lambda: f"<sub>{self._argument()}</sub>",
        }
        if token in single:
            return single[token]()
        return self._command(token) if token.startswith("\\") else self._letters(token)

    def _formula(self) -> str:
        if self.maths:
            raise self._fail("its braces or dollar signs do not match")
        self.maths = True
        html = self._group("$")
        self.maths = False
        return f'<span class="math">{html}</span>' if re.search("[A-Za-z]", html) else html

    def _letters(self, text: str) -> str:
        if not self.maths:
            return plain(text, quote=False).replace("``", "“").replace("''", "”").replace("`", "‘")
        spaced = re.sub(r"([=<>])", r" \1 ", re.sub(r"\s+", "", text))
        spaced = plain(spaced, quote=False).replace("'", "′")
        return re.sub(r"(?<![&\w])[A-Za-z]+(?![\w;])", r"<i>\g<0></i>", spaced)

    def _command(self, token: str) -> str:
        name = token.rstrip(" ") if len(token.rstrip(" ")) > 1 else token
        if name in SYMBOLS:
            spaced = self.maths and name in {r"\le", r"\leq", r"\ge", r"\geq", r"\in", r"\approx"}
            return f" {SYMBOLS[name]} " if spaced else SYMBOLS[name]
        if name in WRAPS:
            before, after = WRAPS[name]
            return before + self._upright() + after
        if name in ACCENTS:
            return self._argument().replace("</i>", "") + ACCENTS[name] + "</i>"
        if name in NOTHING:
            return ""
        if name == r"\textcolor":
            colour = self._raw()
            return f'<span class="{plain(colour)}">{self._argument()}</span>'
        if name == r"\frac":
            return f'<span class="frac">{self._argument()}⁄{self._argument()}</span>'
        if name == r"\hskip":
            length = LENGTH.match(self.text, self.place)
            self.place = length.end() if length else self.place
            return " "
        raise self._fail(f"add {name} to reporting/inline.py")

    def _upright(self) -> str:
        """An argument whose letters are words, also in a formula."""
        maths, self.maths = self.maths, False
        html = self._argument()
        self.maths = maths
        return html

    def _raw(self) -> str:
        """The characters of the next group as they are."""
        end = self.text.find("}", self.place)
        if not self.text.startswith("{", self.place) or end < 0:
            raise self._fail("a colour lacks its braces")
        raw, self.place = self.text[self.place + 1 : end], end + 1
        return raw
