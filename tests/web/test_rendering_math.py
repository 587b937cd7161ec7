"""Mathematics in untrusted text: MathML where it says the same, else the source."""

import itertools
import re

import pytest
from strict_html import Page

from backflip.web.mathml import to_mathml
from backflip.web.rendering import render


def html(text: str) -> str:
    rendered = render(text)
    Page(rendered.html)
    return rendered.html.strip()


@pytest.mark.parametrize(
    ("tex", "expected"),
    [
        ("x", "<mrow><mi>x</mi></mrow>"),
        ("a<b", "<mrow><mi>a</mi><mo>&lt;</mo><mi>b</mi></mrow>"),
        ("x^2", "<mrow><msup><mi>x</mi><mn>2</mn></msup></mrow>"),
        (r"\frac12", "<mrow><mfrac><mn>1</mn><mn>2</mn></mfrac></mrow>"),
        (r"\sqrt[3]{x}", "<mrow><mroot><mrow><mi>x</mi></mrow><mn>3</mn></mroot></mrow>"),
        (r"\pi_\theta", "<mrow><msub><mi>π</mi><mi>θ</mi></msub></mrow>"),
        (
            r"x\in\mathbb{R}",
            "<mrow><mi>x</mi><mo>∈</mo><mi>\N{DOUBLE-STRUCK CAPITAL R}</mi></mrow>",
        ),
        (
            r"\mathbf{ab}",
            "<mrow><mrow><mi>\N{MATHEMATICAL BOLD SMALL A}</mi>"
            "<mi>\N{MATHEMATICAL BOLD SMALL B}</mi></mrow></mrow>",
        ),
        (
            r"\mathcal{AB}",
            "<mrow><mrow><mi>\N{MATHEMATICAL SCRIPT CAPITAL A}</mi>"
            "<mi>\N{SCRIPT CAPITAL B}</mi></mrow></mrow>",
        ),
        (
            r"\boldsymbol{\theta}",
            "<mrow><mrow><mi>\N{MATHEMATICAL BOLD ITALIC SMALL THETA}</mi></mrow></mrow>",
        ),
        (
            r"\mathrm{d}x",
            '<mrow><mrow><mrow><mi mathvariant="normal">d</mi></mrow></mrow><mi>x</mi></mrow>',
        ),
        (r"\text{if }x", "<mrow><mtext>if&nbsp;</mtext><mi>x</mi></mrow>"),
        (r"\text{<b>}", "<mrow><mtext>&lt;b&gt;</mtext></mrow>"),
        (
            r"\boxed{42}",
            '<mrow><mrow class="box"><mrow><mn>42</mn></mrow></mrow></mrow>',
        ),
        (r"a\,b", '<mrow><mi>a</mi><mspace width="0.167em"></mspace><mi>b</mi></mrow>'),
        (r"\textcolor{white}{x}", "<mrow><mstyle><mrow><mi>x</mi></mrow></mstyle></mrow>"),
        (
            r"\begin{aligned}a&=b\\[4pt]c&=d\end{aligned}",
            '<mrow><mtable displaystyle="true"><mtr><mtd class="align-right"><mi>a</mi></mtd>'
            '<mtd class="align-left"><mi></mi><mo>=</mo><mi>b</mi></mtd></mtr><mtr>'
            '<mtd class="align-right"><mi>c</mi></mtd>'
            '<mtd class="align-left"><mi></mi><mo>=</mo><mi>d</mi></mtd></mtr></mtable></mrow>',
        ),
    ],
)
def test_formula_is_mathml_with_its_source(tex: str, expected: str) -> None:
    out = html(f"${tex}$")
    assert Page(out).formulas == [tex]
    assert re.sub('alttext="[^"]*"', "alttext", out) == (
        f'<p><math display="inline" alttext>{expected}</math></p>'
    )


def test_sum_has_its_limits_above_and_below_on_a_line_of_its_own() -> None:
    limits = "<mo>∑</mo><mi>a</mi><mi>b</mi>"
    assert f"<msubsup>{limits}</msubsup>" in html(r"$\sum_a^b$")
    assert f"<munderover>{limits}</munderover>" in html(r"$$\sum_a^b$$")


@pytest.mark.parametrize(
    "text",
    [
        "$$x$$",
        "$$\nx\n$$",
        r"\[x\]",
        "\\[\n  x\n\\]",
        "a\n$$\nx\n$$\nb",
        "- a\n  $$\n  x\n  $$",
        "> \\[\n> x\n> \\]",
    ],
)
def test_display_formula(text: str) -> None:
    out = html(text)
    assert out.count('<math display="block" alttext="x"><mrow><mi>x</mi></mrow></math>') == 1
    assert not {"$", "[", "]"} & set(Page(out).text)


def test_two_display_formulas_are_not_one() -> None:
    assert Page(html("$$x$$ and\nmore $$y$$")).formulas == ["x", "y"]
    assert Page(html("\\[x\\] and\nmore \\[y\\]")).formulas == ["x", "y"]


def test_lines_of_a_display_formula_are_no_markdown() -> None:
    assert Page(html("$$\na\n= b\n+ c\n- d\n$$")).formulas == ["a = b + c - d"]
    assert Page(html("\\begin{align}\na&=b\\\\\n&=c\n\\end{align}")).formulas == [
        r"\begin{align} a&=b\\ &=c \end{align}"
    ]


@pytest.mark.parametrize("text", ["$x$", r"\(x\)", "**$x$**", "n$x$"[1:], "|$x$|b|\n|-|-|"])
def test_formula_in_a_line(text: str) -> None:
    assert '<math display="inline" alttext="x"><mrow><mi>x</mi></mrow></math>' in html(text)


@pytest.mark.parametrize("text", ["the $n$th", "two $x$s", "设$x$为", "($x$)", "$x$, $2 + 2$-ish"])
def test_formula_next_to_letters(text: str) -> None:
    assert "<math" in html(text)


@pytest.mark.parametrize(
    "text",
    [
        "$5 and $6",
        "costs $5, or $6.",
        "US$5 or US$6",
        "$5-$10",
        "$100k to $200k a year",
        "it was 5$ and is 6$ now",
        "$20/month. That was 25$!",
        "pay $5 (4€) or 6$",
        "$HOME/$USER and $PATH",
        r"\$x\$",
        "$ x $",
        "C$more or D$",
        "a $few or $ more",
        "$$",
        "$$$ cheap $$$",
        "a$x",
        r"\\(x\\)",
        "`$x$`",
        "    $$x$$",
        "```\n$$\nx\n$$\n```",
    ],
)
def test_no_formula(text: str) -> None:
    page = Page(html(text))
    assert "math" not in page.tags
    expected = text.replace(r"\$", "$").replace(r"\\", "\\").strip("` \n")
    assert expected in page.text


@pytest.mark.parametrize(
    "tex",
    [
        r"\phantom{x}",
        r"\hspace{-9em}x",
        r"\hspace{90em}x",
        r"\rule{9em}{9em}",
        r"\href{javascript:alert(1)}{x}",
        r"\style{position:fixed}{x}",
        r"\class{top}{x}",
        r"\unicode{x202e}x",
        r"\unicode{xD800}x",
        r"\unicode{x110000}x",
        r"\cancel{x}",
        r"\unknown{x}",
        r"\text{a \textbf{b}}",
        r"\def\a{xx}\a\a",
        r"\newcommand{\a}{xx}\a",
        "x % y",
        r"\frac{a}",
        r"\left( x",
        "a & b",
        r"\text{&lt;b&gt;}",
        r"a \\ b",
        r"\genfrac(){0}{0}{a}{b}+c",
        r"\mathchoice{a}{b}{c}{d}",
        "{" * 300 + "x" + "}" * 300,
        r"\sqrt" * 100 + "x",
        "x" * 2001,
        "a\u200bb",
    ],
)
def test_formula_that_cannot_be_shown_faithfully_is_shown_as_it_is_written(tex: str) -> None:
    assert to_mathml(tex, display=False) is None
    page = Page(html(f"a $${tex}$$ b"))
    assert "math" not in page.tags
    assert (
        tex.replace("\u200b", "[U+200B]").replace(r"\\", "\\").replace("\\", "")[:50]
    ) in page.text.replace("\\", "")


def test_macros_are_not_expanded() -> None:
    """Each would double the next: 2^40 letters from 400."""
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMN"
    lines = [r"\def\a{x}"]
    lines += [rf"\def\{b}{{\{a}\{a}}}" for a, b in itertools.pairwise(letters)]
    assert to_mathml("".join(lines) + r"\N", display=False) is None


def test_a_text_has_its_share_of_mathematics() -> None:
    pages = [Page(render(" ".join([f"${'x' * 92}$"] * count)).html) for count in (80, 81)]
    assert [len(page.formulas) for page in pages] == [80, 80]
    assert "$" + "x" * 92 + "$" in pages[1].text
