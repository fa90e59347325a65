//! Prints what happens: scenarios and completions for people, or completions as JSON for programs.

use crate::cli::{
    print_json, print_line,
    rows::Rows,
    style::{Style, Tone},
};
use serde_json::Value;

/// The indentation of [`Narrator::say`].
const MARGIN: usize = 2;

#[derive(Debug, Clone, Copy)]
pub(super) struct Narrator {
    json: bool,
    style: Style,
    scenarios: u32,
}

impl Narrator {
    pub(super) fn new(json: bool) -> Self {
        Self { json, style: Style::of_stdout(), scenarios: 0 }
    }

    /// Whether the output is JSON.
    pub(super) const fn is_json(self) -> bool {
        self.json
    }

    /// Prints an indented line. With JSON, prints nothing.
    pub(super) fn say(self, text: &str) -> anyhow::Result<()> {
        match (self.json, text) {
            (true, _) => Ok(()),
            (false, "") => print_line(""),
            (false, text) => print_line(&format!("  {}", text.replace('\n', "\n  "))),
        }
    }

    /// Prints a heading. With JSON, prints nothing.
    pub(super) fn heading(self, text: &str) -> anyhow::Result<()> {
        if self.json {
            return Ok(());
        }
        print_line("")?;
        print_line(&self.style.paint(Tone::Strong, text))
    }

    /// Begins a scenario: its title, and what to look at.
    pub(super) fn begin(&mut self, title: &str, about: &[&str]) -> anyhow::Result<()> {
        self.scenarios += 1;
        self.heading(&format!("{}. {title}", self.scenarios))?;
        for line in about {
            self.say(line)?;
        }
        if self.json {
            return Ok(());
        }
        self.say("")?;
        Rows::of_today(MARGIN).header().map_or(Ok(()), |header| self.say(&header))
    }

    /// Prints a completion.
    pub(super) fn completion(self, event: &Value) -> anyhow::Result<()> {
        if self.json { print_json(event) } else { self.say(&Rows::of_today(MARGIN).row(event)) }
    }

    /// Colours a text if the terminal shows colours.
    pub(super) fn paint(self, tone: Tone, text: &str) -> String {
        self.style.paint(tone, text).into_owned()
    }
}
