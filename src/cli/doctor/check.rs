//! What a check found, and how it is told.

use crate::cli::{
    print_json, print_line,
    rows::printable,
    style::{Style, Tone},
};
use serde::Serialize;

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    /// As it should be.
    Ok,
    /// A worker works, and somebody should know.
    Warn,
    /// A worker would not work, or lose what it was given.
    Fail,
    /// Not looked at, because of a failure before.
    Skip,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    #[serde(rename = "check")]
    pub(super) name: String,
    #[serde(rename = "status")]
    pub(super) verdict: Verdict,
    pub(super) detail: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remedy: Option<String>,
}

impl Check {
    fn new(verdict: Verdict, name: &str, detail: impl Into<String>, remedy: Option<&str>) -> Self {
        let detail = printable(&detail.into());
        Self { name: name.to_owned(), verdict, detail, remedy: remedy.map(str::to_owned) }
    }

    pub(super) fn ok(name: &str, detail: impl Into<String>) -> Self {
        Self::new(Verdict::Ok, name, detail, None)
    }

    pub(super) fn warn(name: &str, detail: impl Into<String>, remedy: &str) -> Self {
        Self::new(Verdict::Warn, name, detail, Some(remedy))
    }

    pub(super) fn fail(name: &str, detail: impl Into<String>, remedy: &str) -> Self {
        Self::new(Verdict::Fail, name, detail, Some(remedy))
    }

    pub(super) fn skip(name: &str, detail: impl Into<String>) -> Self {
        Self::new(Verdict::Skip, name, detail, None)
    }

    /// Prints it: a line, and its remedy below it; or JSON.
    pub(super) fn print(&self, json: bool, style: Style) -> anyhow::Result<()> {
        if json {
            return print_json(self);
        }
        let (word, tone) = match self.verdict {
            Verdict::Ok => ("ok", Tone::Good),
            Verdict::Warn => ("warn", Tone::Odd),
            Verdict::Fail => ("FAIL", Tone::Bad),
            Verdict::Skip => ("-", Tone::Faint),
        };
        print_line(&format!("{}  {:<20}  {}", style.paint(tone, &format!("{word:<4}")), self.name, self.detail))?;
        match &self.remedy {
            Some(remedy) => print_line(&format!("{:<28}{}", "", style.paint(Tone::Strong, &format!("-> {remedy}")))),
            None => Ok(()),
        }
    }
}
