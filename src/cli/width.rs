//! Text within the width of the terminal.

use std::io::IsTerminal;

/// Narrower terminals are treated as this wide.
const LEAST: usize = 40;

/// The width of the terminal that stdout is; unlimited where stdout is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Width(Option<usize>);

impl Width {
    /// The variable `COLUMNS` if it is set, also where stdout is no terminal, else what the terminal reports.
    pub(super) fn of_stdout() -> Self {
        let set = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()).filter(|columns| *columns > 0);
        let reported = || {
            let size = std::io::stdout().is_terminal().then(|| terminal_size::terminal_size_of(std::io::stdout()));
            size.flatten().map(|(terminal_size::Width(columns), _)| usize::from(columns))
        };
        Self(set.or_else(reported).map(|columns| columns.max(LEAST)))
    }

    /// A fixed width.
    #[cfg(test)]
    pub(super) const fn columns(columns: usize) -> Self {
        Self(Some(columns))
    }

    /// No limit.
    #[cfg(test)]
    pub(super) const fn unlimited() -> Self {
        Self(None)
    }

    /// Whether a line of this many columns fits.
    pub(super) fn fits(self, columns: usize) -> bool {
        self.0.is_none_or(|width| columns <= width)
    }

    /// The text with each line broken between words where it is too long. What follows a break is indented by `indent`.
    pub(super) fn wrap(self, text: &str, indent: usize) -> String {
        let Some(width) = self.0 else { return text.to_owned() };
        let lines: Vec<_> = text.split('\n').map(|line| wrap_line(line, width, indent)).collect();
        lines.join("\n")
    }
}

fn wrap_line(line: &str, width: usize, indent: usize) -> String {
    if columns(line) <= width {
        return line.to_owned();
    }
    let (mut out, mut used) = (String::new(), 0);
    // Each part is a word with the blanks before it. Those at a break are dropped.
    let mut rest = line;
    while !rest.is_empty() {
        let blanks = rest.len() - rest.trim_start_matches(' ').len();
        let end = rest[blanks..].find(' ').map_or(rest.len(), |at| blanks + at);
        let (part, after) = rest.split_at(end);
        let word = columns(&part[blanks..]);
        if used + blanks + word > width && used > indent && word > 0 {
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            out.push_str(&part[blanks..]);
            used = indent + word;
        } else {
            out.push_str(part);
            used += blanks + word;
        }
        rest = after;
    }
    out
}

/// The columns that a text takes on a terminal: colours take none.
fn columns(text: &str) -> usize {
    let (mut columns, mut in_escape) = (0, false);
    for c in text.chars() {
        match c {
            '\u{1b}' => in_escape = true,
            'm' if in_escape => in_escape = false,
            _ if in_escape => {}
            _ => columns += 1,
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_break_between_words() {
        let text = "ok    redis  \u{1b}[1mone two three four five\u{1b}[0m\nshort";
        assert_eq!(
            Width::columns(20).wrap(text, 4),
            "ok    redis  \u{1b}[1mone two\n    three four five\u{1b}[0m\nshort"
        );
        assert_eq!(
            Width::columns(20).wrap("one verylongwordwithoutanyblank b", 2),
            "one\n  verylongwordwithoutanyblank\n  b"
        );
        assert_eq!(Width::unlimited().wrap(text, 4), text);
    }

    proptest::proptest! {
        #[test]
        fn no_word_is_lost(text in "[a-z é]{0,80}", width in 1_usize..30, indent in 0_usize..6) {
            let wrapped = Width::columns(width).wrap(&text, indent);
            let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            proptest::prop_assert_eq!(words(&wrapped), words(&text));
        }
    }
}
