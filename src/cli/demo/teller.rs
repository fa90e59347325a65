//! Tells what happens: acts and completions for people, or completions as JSON for programs.

use crate::cli::{
    print_json, print_line,
    rows::{header, row},
    style::{Style, Tone},
};
use serde_json::Value;

#[derive(Debug, Clone, Copy)]
pub(super) struct Teller {
    json: bool,
    style: Style,
    acts: u32,
}

impl Teller {
    pub(super) fn new(json: bool) -> Self {
        Self { json, style: Style::of_stdout(), acts: 0 }
    }

    /// Whether programs listen.
    pub(super) const fn is_json(self) -> bool {
        self.json
    }

    /// A line, indented; nothing for programs.
    pub(super) fn say(self, text: &str) -> anyhow::Result<()> {
        match (self.json, text) {
            (true, _) => Ok(()),
            (false, "") => print_line(""),
            (false, text) => print_line(&format!("  {text}")),
        }
    }

    /// A heading.
    pub(super) fn heading(self, text: &str) -> anyhow::Result<()> {
        if self.json {
            return Ok(());
        }
        print_line("")?;
        print_line(&self.style.paint(Tone::Strong, text))
    }

    /// An act begins: what happens, and why it is worth looking at.
    pub(super) fn act(&mut self, title: &str, about: &[&str]) -> anyhow::Result<()> {
        self.acts += 1;
        self.heading(&format!("{}. {title}", self.acts))?;
        for line in about {
            self.say(line)?;
        }
        if self.json {
            return Ok(());
        }
        self.say("")?;
        self.say(&header(self.style))
    }

    /// A job has ended.
    pub(super) fn completion(self, event: &Value) -> anyhow::Result<()> {
        if self.json { print_json(event) } else { self.say(&row(event, self.style)) }
    }

    /// Paints, where it is wanted.
    pub(super) fn paint(self, tone: Tone, text: &str) -> String {
        self.style.paint(tone, text).into_owned()
    }
}
