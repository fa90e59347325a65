//! Colour, where it is wanted: on a terminal, unless `NO_COLOR` says otherwise (<https://no-color.org>).

use std::{borrow::Cow, io::IsTerminal};

/// What a piece of text is, rather than how it looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    /// As it should be.
    Good,
    /// Worth a look.
    Odd,
    /// Not as it should be.
    Bad,
    /// Beside the point.
    Faint,
    /// A heading.
    Strong,
}

/// Colours, or does not.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    on: bool,
}

impl Style {
    /// As stdout and the environment want it.
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
