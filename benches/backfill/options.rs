//! The flags.

use std::{str::FromStr, time::Duration};

/// What is measured.
pub(crate) struct Options {
    /// Records of the file.
    pub(crate) rows: u64,
    /// How often the command is killed.
    pub(crate) kills: u64,
    /// Calls a second that XCO allows at first.
    pub(crate) limit: Option<u64>,
    /// For how long.
    pub(crate) limited: Duration,
}

/// When the command is killed.
#[derive(Clone, Copy)]
pub(crate) enum KillAt {
    /// When this many rows have ended.
    Rows(u64),
    /// After this time.
    After(Duration),
}

impl Options {
    /// Reads the arguments of the program.
    pub(crate) fn read() -> Self {
        let mut options = Self { rows: 200_000, kills: 2, limit: None, limited: Duration::from_secs(600) };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            match word.as_str() {
                "--rows" => options.rows = number(&word, words.next()),
                "--kills" => options.kills = number(&word, words.next()),
                "--limit" => options.limit = Some(number(&word, words.next())),
                "--limited-seconds" => options.limited = Duration::from_secs(number(&word, words.next())),
                // `cargo bench` adds this.
                "--bench" => {}
                _ => panic!("unknown flag {word}: there are --rows, --kills, --limit and --limited-seconds"),
            }
        }
        options
    }

    /// When the command is killed, in order: once in the middle of the time with a limit, and then at even distances.
    pub(crate) fn kills(&self, valid: u64) -> Vec<KillAt> {
        let by_rows = |kill| KillAt::Rows(kill * valid / (self.kills + 1));
        let kill =
            |kill| if kill == 1 && self.limit.is_some() { KillAt::After(self.limited / 2) } else { by_rows(kill) };
        (1..=self.kills).map(kill).collect()
    }
}

fn number<N: FromStr>(flag: &str, word: Option<String>) -> N {
    word.and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("{flag} is followed by a number"))
}
