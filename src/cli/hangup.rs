//! Notices that the reader of stdout has gone, while nothing is written.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::{io, os::fd::AsFd, thread};
use tokio_util::sync::CancellationToken;

/// A token that is cancelled when the reader of stdout goes away, as `head` does after its last line. A command that waits would
/// otherwise notice only when it writes again.
pub(super) fn reader_gone() -> CancellationToken {
    let gone = CancellationToken::new();
    let token = gone.clone();
    // The thread blocks until the process ends. Without it the command still works, and ends at its next line.
    let _ = thread::Builder::new().name("stdout-watch".to_owned()).spawn(move || {
        let stdout = io::stdout();
        loop {
            // Errors and hang-ups are reported without being asked for.
            let mut fds = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) if fds[0].any().unwrap_or(false) => return token.cancel(),
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(_) => return,
            }
        }
    });
    gone
}
