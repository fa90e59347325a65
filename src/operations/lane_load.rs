//! How many jobs are in the lanes.

use super::{Backend, Error};
use crate::{contract::Lane, queue::maintenance};

/// Number of jobs in each lane, over all partitions and without delayed jobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LaneLoad {
    interactive: u64,
    bulk: u64,
}

impl LaneLoad {
    /// Reads both lanes. It costs two commands for each lane and partition.
    ///
    /// # Errors
    /// [`Error::Redis`].
    pub async fn read(backend: &mut Backend<'_>) -> Result<Self, Error> {
        let (mut load, failed) = (Self::default(), backend.failed());
        for keys in backend.keys() {
            for lane in [Lane::Interactive, Lane::Bulk] {
                *load.of_mut(lane) += maintenance::entries(&mut backend.link, &keys, lane).await.map_err(&failed)?;
            }
        }
        Ok(load)
    }

    /// Loads of the lanes.
    #[cfg(test)]
    pub(crate) const fn new(interactive: u64, bulk: u64) -> Self {
        Self { interactive, bulk }
    }

    /// Number of jobs in a lane.
    pub const fn of(&self, lane: Lane) -> u64 {
        match lane {
            Lane::Interactive => self.interactive,
            Lane::Bulk => self.bulk,
        }
    }

    const fn of_mut(&mut self, lane: Lane) -> &mut u64 {
        match lane {
            Lane::Interactive => &mut self.interactive,
            Lane::Bulk => &mut self.bulk,
        }
    }
}
