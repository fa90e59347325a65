//! Callers: who is limited, closed by a 429, or has jobs that wait.

mod count;
mod list;
mod one;

pub use list::{CallerCursor, CallerList, CallerListRequest, CallerState, ListedCaller, MOST_LISTED, list};
pub use one::{Caller, CallerPause, LearnedRate, one};
