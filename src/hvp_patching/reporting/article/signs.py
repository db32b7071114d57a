"""Signs beyond ASCII: what prints those that LaTeX's first fonts lack."""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType

from hvp_patching.reporting.results import ReportError

# as mathematics; they need no further fonts
NAMES = {
    "αβγδεζηθ": "alpha beta gamma delta varepsilon zeta eta theta",
    "ικλμνξπρ": "iota kappa lambda mu nu xi pi rho",
    "στυφχψω": "sigma tau upsilon varphi chi psi omega",
    "ΓΔΘΛΞΠΣΦΨΩ": "Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega",
}
SIGNS = MappingProxyType(
    {
        **{
            sign: rf"\{name}"
            for letters, names in NAMES.items()
            for sign, name in zip(letters, names.split(), strict=True)
        },
        **{sign: rf"{{}}^{{{digit}}}" for digit, sign in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
        **{sign: rf"{{}}_{{{digit}}}" for digit, sign in enumerate("₀₁₂₃₄₅₆₇₈₉")},
        "⁻": r"{}^{-}",
        "ᵀ": r"{}^{\top}",
        "½": r"\frac{1}{2}",
        "¼": r"\frac{1}{4}",
        "¾": r"\frac{3}{4}",
        "±": r"\pm",
        "×": r"\times",
        "÷": r"\div",
        "·": r"\cdot",
        "⋅": r"\cdot",
        "°": r"{}^{\circ}",
        "µ": r"\mu",
        "−": "-",
        "′": r"{}'",
        "″": r"{}''",
        "‴": r"{}'''",
        "∂": r"\partial",
        "∇": r"\nabla",
        "∫": r"\int",
        "∑": r"\sum",
        "√": r"\surd",
        "∞": r"\infty",
        "‖": r"\Vert",
        "≤": r"\le",
        "≥": r"\ge",
        "≈": r"\approx",
        "≠": r"\neq",
        "≡": r"\equiv",
        "∈": r"\in",
        "→": r"\to",
        "←": r"\leftarrow",
        "↔": r"\leftrightarrow",
        "↑": r"\uparrow",
        "↓": r"\downarrow",
        "⟨": r"\langle",
        "⟩": r"\rangle",
        "⊗": r"\otimes",
        "⊕": r"\oplus",
        "ℓ": r"\ell",
        "•": r"\bullet",
        "★": r"\star",
        "○": r"\circ",
    }
)
# what pdflatex prints by itself: dashes, quotes and the accented letters of western languages
KNOWN = frozenset("–—‘’“”…\u00a0") | {chr(n) for n in range(0xC0, 0x100)} - set("ÐÞðþ×÷")


def declarations() -> Iterator[str]:
    """A line of LaTeX's preamble for each of the signs."""
    for sign, tex in SIGNS.items():
        yield rf"\DeclareUnicodeCharacter{{{ord(sign):04X}}}{{\ensuremath{{{tex}}}}}"


def check_signs(what: str, text: str) -> None:
    """Raise ``ReportError`` naming ``what`` for a sign that would stop LaTeX."""
    for sign in sorted(set(text)):
        if ord(sign) > 0x7E and sign not in SIGNS and sign not in KNOWN:
            raise ReportError(
                f"{what}: LaTeX prints no '{sign}' (U+{ord(sign):04X}): "
                "reword it, or give it a command in reporting/article/signs.py"
            )
