//! Colours the output on a terminal, unless `NO_COLOR` is set (<https://no-color.org>).

use std::{borrow::Cow, io::IsTerminal};

/// Meaning of a piece of text. It determines the colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    /// All is well.
    Good,
    /// Needs attention.
    Odd,
    /// An error.
    Bad,
    /// Less important.
    Faint,
    /// A heading.
    Strong,
}

/// Whether text is coloured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    on: bool,
}

impl Style {
    /// With colours if stdout is a terminal and the environment allows them.
    pub(super) fn of_stdout() -> Self {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let dumb = set("TERM").is_some_and(|term| term == "dumb");
        Self { on: std::io::stdout().is_terminal() && set("NO_COLOR").is_none() && !dumb }
    }

    /// No colour.
    #[cfg(test)]
    pub(super) const fn plain() -> Self {
        Self { on: false }
    }

    /// With colours, wherever stdout goes.
    #[cfg(test)]
    pub(super) const fn coloured() -> Self {
        Self { on: true }
    }

    /// `text` in `tone`. Pad before: escapes have no width on a terminal, but a length.
    pub(super) fn paint(self, tone: Tone, text: &str) -> Cow<'_, str> {
        if !self.on || text.trim().is_empty() {
            return Cow::Borrowed(text);
        }
        let code = match tone {
            Tone::Good => "32",
            Tone::Odd => "33",
            Tone::Bad => "31",
            Tone::Faint => "2",
            Tone::Strong => "1",
        };
        Cow::Owned(format!("\u{1b}[{code}m{text}\u{1b}[0m"))
    }
}
