# Draws what a terminal shows as SVG: text with the colours that the tool uses (SGR 1, 2, 31 to 36). Long lines are wrapped at
# `columns`. Usage: LC_ALL=C awk -v columns=100 -f docs/terminal-svg.awk screen >picture.svg

function escaped(text) {
    gsub(/&/, "\\&amp;", text)
    gsub(/</, "\\&lt;", text)
    gsub(/>/, "\\&gt;", text)
    return text
}

# How many characters the text has: UTF-8's bytes that continue a character do not count. (Run with LC_ALL=C.)
function chars(text) {
    gsub(/[\200-\277]/, "", text)
    return length(text)
}

# The first `room` characters of a text.
function head_of(text, room,    i, seen) {
    if (chars(text) <= room) return text
    for (i = 1; i <= length(text); i++)
        if (substr(text, i, 1) !~ /[\200-\277]/ && ++seen > room) break
    return substr(text, 1, i - 1)
}

# A piece of text of one style.
function put(text,    head) {
    while (text != "") {
        if (width >= columns) newline()
        head = head_of(text, columns - width)
        text = substr(text, length(head) + 1)
        width += chars(head)
        line = line (style == "" ? escaped(head) : "<tspan class=\"" style "\">" escaped(head) "</tspan>")
    }
}

function newline() {
    lines[++count] = line
    line = ""
    width = 0
}

BEGIN {
    escape = sprintf("%c", 27)
    class["1"] = "strong"; class["2"] = "faint"; class["31"] = "bad"; class["32"] = "good"; class["33"] = "odd"
    class["34"] = "cool"; class["36"] = "cool"
    if (!columns) columns = 100
}

{
    gsub(/\r/, "")
    rest = $0
    while (match(rest, escape "\\[[0-9;?]*[A-Za-z]")) {
        put(substr(rest, 1, RSTART - 1))
        code = substr(rest, RSTART + 2, RLENGTH - 3)
        if (substr(rest, RSTART + RLENGTH - 1, 1) == "m") style = (code in class) ? class[code] : ""
        rest = substr(rest, RSTART + RLENGTH)
    }
    put(rest)
    newline()
}

END {
    while (count > 0 && lines[count] == "") count--
    advance = 8.43
    step = 19
    wide = int(columns * advance + 40)
    high = count * step + 64
    printf "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" role=\"img\">\n", wide, high, wide, high
    print "<title>xco-worker in a terminal: a job is enqueued, then status, why, dead letters and the plan of a replay</title>"
    print "<style>"
    print "text { font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, \"DejaVu Sans Mono\", monospace; fill: #d7dae0; white-space: pre; }"
    print ".strong { font-weight: bold; fill: #ffffff; } .faint { fill: #8b929e; } .good { fill: #98c379; }"
    print ".odd { fill: #e5c07b; } .bad { fill: #e06c75; } .cool { fill: #61afef; }"
    print "</style>"
    printf "<rect width=\"%d\" height=\"%d\" rx=\"8\" fill=\"#1e2127\"/>\n", wide, high
    split("#e06c75 #e5c07b #98c379", dots, " ")
    for (i = 1; i <= 3; i++) printf "<circle cx=\"%d\" cy=\"20\" r=\"6\" fill=\"%s\"/>\n", i * 20 + 2, dots[i]
    for (i = 1; i <= count; i++)
        if (lines[i] != "") printf "<text x=\"20\" y=\"%d\" xml:space=\"preserve\">%s</text>\n", 40 + i * step, lines[i]
    print "</svg>"
}
