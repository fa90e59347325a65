//! What a program asks a Redis that it has started itself.

use super::{Backend, Error};
use redis::cmd;
use std::path::PathBuf;

impl Backend<'_> {
    /// The folder in which the server keeps its data: `CONFIG GET dir`.
    ///
    /// # Errors
    /// [`Error::Redis`], also where the Redis user may not ask for it.
    pub async fn data_folder(&mut self) -> Result<PathBuf, Error> {
        let failed = self.failed();
        let (_, folder): (String, String) =
            self.link.query(cmd("CONFIG").arg("GET").arg("dir")).await.map_err(failed)?;
        Ok(PathBuf::from(folder))
    }
}
