//! Reads dead letters, moves them back into the queue, and removes them, with `lua/dead_letters/replay.lua` and `lua/limiter/bucket_peek.lua`.

use super::{
    IdIndex, Keys, Link,
    admission::BATCH_LIFE_S,
    entry::text,
    list::{FIRST_COUNT, next_count},
    script::{Script, integers, script},
};
pub use crate::dead_letters::{BucketState, DeadLetter, IdRange, Replay};
use crate::{
    contract::{EntryId, Lane},
    limits::Bucket,
};
use redis::{RedisResult, Value, cmd};
use std::sync::LazyLock;

static REPLAY: LazyLock<Script> = LazyLock::new(|| script!("dead_letters/replay" on "shared/atomic" on "ids/index"));
static PEEK: LazyLock<Script> = LazyLock::new(
    || script!("limiter/bucket_peek" on "shared/atomic" on "ids/index" on "limiter/limiter" on "limiter/recent"),
);

/// Maximum number of dead letters that one step of a replay moves.
pub const MAX_REPLAY: usize = 100;

/// The order in which dead letters are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadOrder {
    /// In the order in which they were written.
    OldestFirst,
    /// In the reverse order.
    NewestFirst,
}

/// Reads the dead letters of one partition, page by page.
#[derive(Debug)]
pub struct DeadLetterReader {
    keys: Keys,
    stretch: IdRange,
    order: ReadOrder,
    after: Option<EntryId>,
    count: usize,
    done: bool,
}

impl DeadLetterReader {
    /// Creates a reader for a range of a partition's dead letters.
    pub const fn new(keys: Keys, stretch: IdRange, order: ReadOrder) -> Self {
        Self { keys, stretch, order, after: None, count: FIRST_COUNT, done: false }
    }

    /// Returns the next page, empty at the end. After an error, the call can be repeated. O(dead letters read).
    pub async fn next(&mut self, link: &mut Link) -> RedisResult<Vec<DeadLetter>> {
        if self.done {
            return Ok(Vec::new());
        }
        let IdRange { first, last } = self.stretch;
        let beyond = |bound: EntryId| self.after.map_or_else(|| bound.to_string(), |after| format!("({after}"));
        let mut command;
        match self.order {
            ReadOrder::OldestFirst => {
                command = cmd("XRANGE");
                command.arg(&self.keys.dead).arg(beyond(first)).arg(last.to_string());
            }
            ReadOrder::NewestFirst => {
                command = cmd("XREVRANGE");
                command.arg(&self.keys.dead).arg(beyond(last)).arg(first.to_string());
            }
        }
        command.arg("COUNT").arg(self.count);
        let letters = letters(link.query(&command).await?, self.keys.partition);
        self.done = letters.len() < self.count;
        self.after = letters.last().map(|letter| letter.entry).or(self.after);
        let bytes: usize = letters.iter().map(|letter| letter.job.len() + letter.error.len() + 200).sum();
        self.count = next_count(bytes, letters.len());
        Ok(letters)
    }
}

fn letters(reply: Value, partition: u16) -> Vec<DeadLetter> {
    let Value::Array(list) = reply else { return Vec::new() };
    let mut letters = Vec::with_capacity(list.len());
    for item in list {
        let Value::Array(mut pair) = item else { continue };
        let (Some(Value::Array(fields)), Some(id)) = (pair.pop(), pair.pop()) else { continue };
        let Some(entry) = text(&id).and_then(|id| id.parse().ok()) else { continue };
        let mut letter = DeadLetter::empty(partition, entry);
        let mut fields = fields.into_iter();
        while let (Some(name), Some(Value::BulkString(content))) = (fields.next(), fields.next()) {
            let place = match text(&name) {
                Some("id") => &mut letter.id,
                Some("type") => &mut letter.job_type,
                Some("job") => &mut letter.job,
                Some("error") => &mut letter.error,
                Some("at") => &mut letter.at,
                Some("state") => &mut letter.state,
                Some("replayable") => {
                    letter.replayable = content == b"true";
                    continue;
                }
                _ => continue,
            };
            *place = String::from_utf8(content)
                .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
        }
        letters.push(letter);
    }
    letters
}

/// Returns the entry of a partition's newest dead letter. O(1).
pub async fn newest_letter(link: &mut Link, keys: &Keys) -> RedisResult<Option<EntryId>> {
    let newest: Vec<(String, Value)> =
        link.query(cmd("XREVRANGE").arg(&keys.dead).arg("+").arg("-").arg("COUNT").arg(1)).await?;
    Ok(newest.first().and_then(|(id, _)| id.parse().ok()))
}

/// Counts the dead letters of a partition. O(1).
pub async fn count_letters(link: &mut Link, keys: &Keys) -> RedisResult<u64> {
    link.query(cmd("XLEN").arg(&keys.dead)).await
}

/// The result of replaying one dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replayed {
    /// The dead letter is now a job in the bulk lane.
    Moved,
    /// The dead letter no longer exists.
    Gone,
    /// The dead letter was not moved, because another job has reserved its id meanwhile.
    Superseded,
}

/// A replay, from its first step to its last.
#[derive(Debug, Clone)]
pub struct ReplayRun {
    /// The operator who replays.
    pub who: String,
    /// The name of the run: nine digits.
    name: u32,
    step: u64,
    /// How ids are reserved.
    index: IdIndex,
}

impl ReplayRun {
    /// Starts a run for the operator `who`.
    pub fn new(who: String, index: IdIndex) -> Self {
        Self { who, name: rand::random_range(100_000_000..1_000_000_000), step: 0, index }
    }

    /// The name of the run, unique to it.
    pub const fn name(&self) -> u32 {
        self.name
    }

    /// Starts the next step. Its answer is independent of the previous step's.
    pub const fn next_step(&mut self) {
        self.step += 1;
    }

    /// Moves up to [`MAX_REPLAY`] dead letters of one partition. Idempotent within one step, so it can be repeated
    /// after a lost reply.
    pub async fn replay(&self, link: &mut Link, keys: &Keys, letters: &[Replay]) -> RedisResult<Vec<Replayed>> {
        let batches = letters.iter().filter(|letter| letter.batch.is_some()).count();
        let mut call = REPLAY.call(6 + batches);
        let receipt = keys.replay(&self.name.to_string());
        call.arg(&keys.dead).arg(keys.due(Lane::Bulk)).arg(receipt).arg(&keys.edits);
        call.arg(&keys.index).arg(&keys.ids);
        for letter in letters {
            if let Some((batch, _)) = &letter.batch {
                call.arg(keys.batch(batch));
            }
        }
        call.arg(letters.len()).arg(self.step).arg(keys.partition);
        call.arg(format!("{}{:06}", self.name, self.step % 1_000_000));
        call.arg(self.index.window_ms())
            .arg(BATCH_LIFE_S)
            .arg(&self.who)
            .arg(self.index.width_ms())
            .arg(self.index.life_ms());
        for letter in letters {
            let Replay { entry, id, job, state, held_by, batch, original, .. } = letter;
            call.arg(entry.to_string()).arg(id).arg(job).arg(state).arg(held_by);
            call.arg(batch.as_ref().map_or("", |(_, status)| status)).arg(original.as_deref().unwrap_or(""));
        }
        let answer: String = redis::from_redis_value(REPLAY.run(link, &call).await?)?;
        Ok(answer
            .bytes()
            .map(|digit| match digit {
                b'1' => Replayed::Moved,
                b'2' => Replayed::Superseded,
                _ => Replayed::Gone,
            })
            .collect())
    }
}

/// Removes dead letters. Returns how many of them existed. O(dead letters).
pub async fn discard(link: &mut Link, keys: &Keys, letters: &[EntryId]) -> RedisResult<u64> {
    let mut command = cmd("XDEL");
    command.arg(&keys.dead);
    for entry in letters {
        command.arg(entry.to_string());
    }
    link.query(&command).await
}

/// Returns the current state of a bucket. O(1).
pub async fn peek(link: &mut Link, keys: &Keys, bucket: &Bucket) -> RedisResult<BucketState> {
    let mut call = PEEK.call(3);
    call.arg(keys.limit(&bucket.name)).arg(&keys.recent).arg(bucket.interval_us).arg(bucket.tolerance_us);
    let reply = integers(PEEK.run(link, &call).await?)?;
    let field = |at: usize| reply.get(at).and_then(|us| u64::try_from(*us).ok()).unwrap_or(0);
    Ok(BucketState { interval_us: field(0), wait_us: field(1) })
}

/// A job that an operator edited before replaying it.
#[derive(Clone)]
pub struct Edit {
    /// The entry of this record, which includes its time.
    pub entry: EntryId,
    /// The entry of the dead letter that was edited.
    pub letter: String,
    /// The operator who edited the job.
    pub who: String,
    /// The job's JSON before the edit.
    pub original: String,
    /// The job's JSON after the edit.
    pub job: String,
}

/// Returns the newest edits of a partition, at most `count`. O(edits read).
pub async fn edits(link: &mut Link, keys: &Keys, count: usize) -> RedisResult<Vec<Edit>> {
    let list: Vec<(String, std::collections::HashMap<String, String>)> =
        link.query(cmd("XREVRANGE").arg(&keys.edits).arg("+").arg("-").arg("COUNT").arg(count)).await?;
    Ok(list
        .into_iter()
        .filter_map(|(id, mut fields)| {
            let mut field = |name: &str| fields.remove(name).unwrap_or_default();
            Some(Edit {
                entry: id.parse().ok()?,
                letter: field("letter"),
                who: field("who"),
                original: field("original"),
                job: field("job"),
            })
        })
        .collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn a_letter_is_read_and_what_it_lacks_is_empty() {
        let entry = |id: &str, fields: &[&str]| {
            Value::Array(vec![bulk(id), Value::Array(fields.iter().map(|text| bulk(text)).collect())])
        };
        let list = Value::Array(vec![
            entry("5-1", &["id", "a", "type", "CheckUser", "job", "{}", "error", "{}", "replayable", "true", "x", "y"]),
            entry("6-0", &["anything", "else"]),
            Value::Array(vec![bulk("7-0"), Value::Nil]),
        ]);
        let read = letters(list, 3);
        assert_eq!(read.len(), 2);
        assert_eq!((read[0].id.as_str(), read[0].replayable, read[0].partition), ("a", true, 3));
        assert_eq!(read[0].entry, EntryId { ms: 5, seq: 1 });
        assert_eq!((read[1].job.as_str(), read[1].replayable), ("", false));
    }
}
