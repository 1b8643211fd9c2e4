"""PTX without calls: the body of a function in the place of each, as the interpreter knows no stack."""

import re

_FUNCTION = re.compile(
    r"^\.func\s*\(\s*\.param\s+\.\w+\s+(\w+)\s*\)\s*(\w+)\s*\(([^)]*)\)[\s.\w]*?(;|\{)", re.MULTILINE
)
_PARAM = re.compile(r"\.param\s+\.(\w+)\s+(\w+)")
_CALL = re.compile(r"call\.uni\s*\(\s*(\w+)\s*\)\s*,\s*(\w+)\s*,\s*\(([^)]*)\)\s*;")


def expand(text: str) -> str:
    """The text with the functions' bodies where they are called."""
    text = re.sub(r"//[^\n]*", "", text)
    bodies: dict[str, tuple[str, list[str], str]] = {}
    while match := _FUNCTION.search(text):
        end = match.end()
        if match[4] == "{":
            end = _end_of(text, match.end())
            names = [name for _, name in _PARAM.findall(match[3])]
            bodies[match[2]] = (match[1], names, text[match.end() : end - 1])
        text = text[: match.start()] + text[end:]
    count = 0
    while match := _CALL.search(text):
        result, names, body = bodies[match[2]]
        given = [name.strip() for name in match[3].split(",")]
        if len(given) != len(names):
            raise ValueError(f"{match[2]} takes {len(names)} parameters")
        count += 1
        for name, value in zip((result, *names), (match[1], *given), strict=True):
            body = re.sub(rf"\b{name}\b", f"{value}_of_{count}", body)
        body = re.sub(r"(\$L_\w+)", rf"\1_{count}", body)
        body = re.sub(r"\bret;", f"bra $L_end_{count};", body)
        # What the caller and the body call differently is one register, declared around both.
        opened = text.rindex("{", 0, match.start())
        around = text[opened : match.end()]
        closed = text.index("}", match.end())
        after = text[match.end() : closed]
        for value in (match[1], *given):
            around, after = (re.sub(rf"\b{value}\b", f"{value}_of_{count}", part) for part in (around, after))
        around = _CALL.sub("", around)
        text = f"{text[:opened]}{around}{{{body}}}\n$L_end_{count}:\n{after}{text[closed:]}"
    return _as_registers(text)


def _end_of(text: str, at: int) -> int:
    """Behind the brace that closes what was opened before."""
    depth = 1
    while depth:
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        at += 1
    return at


def _as_registers(text: str) -> str:
    """Parameters of calls as registers."""
    text = re.sub(r"\.reg \.b32 temp_param_reg;", "", text)
    text = re.sub(r"\.param\s+\.(\w+)\s+(\w+_of_\d+);", r".reg .\1 %\2;", text)
    text = re.sub(r"ld\.param\.(\w+)(\s+%\w+),\s*\[(\w+_of_\d+)(?:\+0)?\];", r"mov.\1\2, %\3;", text)
    return re.sub(r"st\.param\.(\w+)(\s+)\[(\w+_of_\d+)(?:\+0)?\],", r"mov.\1\2%\3,", text)
