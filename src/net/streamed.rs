//! Bodies that are written while they are sent.

use futures::{Stream, StreamExt, stream};
use std::{fmt::Display, future::Future, io};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Pieces that are written ahead of the client.
const PIECES_AHEAD: usize = 2;

/// A body of the pieces that `write` sends. If `write` fails, the body breaks off, so that the client does not take it for complete.
pub fn streamed<F, E>(
    write: impl FnOnce(mpsc::Sender<Vec<u8>>) -> F,
) -> impl Stream<Item = io::Result<Vec<u8>>> + Send + 'static
where
    F: Future<Output = Result<u64, E>> + Send + 'static,
    E: Display + Send + 'static,
{
    let (to, pieces) = mpsc::channel(PIECES_AHEAD);
    let writing = write(to);
    let writing = tokio::spawn(async move {
        writing.await.inspect_err(|error| tracing::warn!(%error, "a download ended early")).is_ok()
    });
    let end = stream::once(writing).filter_map(async |ended| {
        let is_complete = matches!(ended, Ok(true));
        (!is_complete).then(|| Err(io::Error::other("the download ended early")))
    });
    ReceiverStream::new(pieces).map(Ok).chain(end)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_body_that_cannot_be_written_breaks_off() {
        for (written, is_complete) in [(Ok(1), true), (Err("Redis is away"), false)] {
            let pieces: Vec<_> = streamed(async move |to: mpsc::Sender<Vec<u8>>| {
                to.send(b"a\n".to_vec()).await.unwrap();
                written
            })
            .collect()
            .await;
            assert_eq!(pieces[0].as_ref().unwrap(), b"a\n");
            assert_eq!(pieces.len() == 1, is_complete, "{pieces:?}");
            assert_eq!(pieces.last().unwrap().is_ok(), is_complete);
        }
    }
}
