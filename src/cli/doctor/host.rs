//! What this machine allows.

use super::{
    super::open_files::{OpenFiles, REMEDY, Share},
    check::Check,
};
use crate::config::Config;

/// Checks of the host.
pub(super) fn checks(config: &Config) -> Vec<Check> {
    OpenFiles::read().map(|files| open_files(config, files.most)).into_iter().collect()
}

/// A worker asks for all it may have: that counts, and not what this shell has now.
fn open_files(config: &Config, most: u64) -> Check {
    const NAME: &str = "open files";
    let share = Share::of(config, most);
    match share.complaint(config, most) {
        None => Check::ok(NAME, format!("{most} at once, {} are needed", share.needed)),
        Some(said) => Check::warn(NAME, said, REMEDY),
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Verdict;
    use super::*;

    #[test]
    fn too_few_open_files_are_to_be_looked_at() {
        let config = Config::default();
        assert_eq!(open_files(&config, 1024).verdict, Verdict::Ok);
        let few = open_files(&config, 64);
        assert_eq!(few.verdict, Verdict::Warn);
        assert!(few.remedy.is_some_and(|remedy| remedy.contains("LimitNOFILE=")), "{}", few.detail);
    }
}
