"""As much of C++ as the house rules need: code without comments and literals, includes, functions and their lengths."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_LEXEME = re.compile(
    r"""
      (?P<raw>R"(?P<tag>[^()\\\s]{0,16})\(.*?\)(?P=tag)")
    | (?P<string>"(?:\\.|[^"\\\n])*")
    | (?P<number>\b\d[\w.']*)                # 1'000'000 holds no character literals
    | (?P<character>'(?:\\.|[^'\\\n])+')
    | (?P<comment>//[^\n]*|/\*.*?\*/)
    """,
    re.DOTALL | re.VERBOSE,
)
_DIRECTIVE = re.compile(r"^[ \t]*\#(?:[^\n]*\\\n)*[^\n]*", re.MULTILINE)
_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*[<"]([^>"\n]+)[>"]', re.MULTILINE)
_PARENTHESISED_ATTRIBUTE = re.compile(r"(?:alignas|__attribute__|decltype)\s*\((?:[^()]|\([^()]*\))*\)")
_SCOPE = re.compile(r"\s*(?:(?:inline|static|typedef|export)\s+)*(?:namespace|class|struct|union|enum|extern)\b")
_NAMESPACE = re.compile(r"\bnamespace\b[\w\s:]*$")  # anywhere: a macro's rows may come before it, without a semicolon
_NAME = re.compile(r"(operator\s*(?:\(\)|\[\]|[^\s\w(]+|\w+)|[~\w:]+)\s*\(")


@dataclass(frozen=True)
class Function:
    """A function with a body: its name, its first line (counted from 1) and its length in lines."""

    name: str
    line: int
    length: int


def _blank(text: str) -> str:
    return re.sub(r"[^\n]", " ", text)


def code_of(text: str) -> str:
    """The text with comments, strings and character literals blanked; every line keeps its number."""

    def replace(match: re.Match[str]) -> str:
        return match[0] if match["number"] else _blank(match[0])

    return _LEXEME.sub(replace, text)


def includes(text: str) -> list[str]:
    """The files named by #include lines, in order."""
    return _INCLUDE.findall(text)


def functions(text: str) -> list[Function]:
    """Every function defined at namespace or class level, in order; a lambda counts as lines of the one around it."""
    code = _DIRECTIVE.sub(lambda match: _blank(match[0]), code_of(text))
    found = list(_definitions(code))
    if code.count("{") != code.count("}"):
        raise ValueError(f"{code.count('{')} opening and {code.count('}')} closing braces outside literals")
    return found


def _definitions(code: str) -> Iterator[Function]:
    head = 0  # where the declaration being read starts
    position = 0
    while position < len(code):
        character = code[position]
        if character == "{":
            kind = _kind(code[head:position])
            if kind == "scope":
                head = position + 1
            else:
                position = _closing(code, position)
            if kind == "function":
                yield _function(code, head, position)
                head = position + 1
        elif character in ";}":
            head = position + 1
        position += 1


def _kind(head: str) -> str:
    """What an opening brace after `head` opens: a scope to look into, a function's body, or a value."""
    head = _PARENTHESISED_ATTRIBUTE.sub("", _without_template(head)).rstrip()
    if _NAMESPACE.search(head) or (_SCOPE.match(head) and "(" not in head):
        return "scope"
    # Constructor(...) : member{...} { body }: the brace of a member follows its name, that of the body a brace or ")".
    initializer = re.search(r"\)[^:()]*:(?!:)", head) and re.search(r"[\w>]$", head)
    inside_call = head.count("(") > head.count(")")
    if inside_call or "(" not in head or head.endswith(("=", ",", "(")) or initializer:
        return "value"
    return "function"


def _without_template(head: str) -> str:
    while match := re.match(r"\s*template\s*<", head):
        depth, end = 1, match.end()
        while depth and end < len(head):
            depth += {"<": 1, ">": -1}.get(head[end], 0)
            end += 1
        head = head[end:]
    return head


def _closing(code: str, opening: int) -> int:
    depth = 0
    for match in re.finditer(r"[{}]", code[opening:]):
        depth += 1 if match[0] == "{" else -1
        if depth == 0:
            return opening + match.start()
    raise ValueError(f"the brace on line {code.count(chr(10), 0, opening) + 1} is never closed")


def _function(code: str, head: int, end: int) -> Function:
    first = head + len(code[head:end]) - len(code[head:end].lstrip())
    declaration = _PARENTHESISED_ATTRIBUTE.sub("", _without_template(code[first:end]))
    name = _NAME.search(declaration)
    line = code.count("\n", 0, first) + 1
    return Function(name[1] if name else "?", line, code.count("\n", first, end) + 1)
