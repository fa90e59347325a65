//! Reading all letters that may fit, a page ahead, in bounded memory.

use crate::{
    cli::{Context, operator::this_operator, redis_access},
    contract::EntryId,
    dead_letters::{Facts, Filter},
    operations::Actor,
    queue::{
        Connector, Keys, Link, control,
        dead::{self, Letter, LetterReader, Order, Stretch},
        is_transient,
    },
};
use redis::RedisError;
use serde_json::Value;
use std::time::Duration;
use tokio::sync::mpsc;

/// How often what is safe to repeat is tried while Redis cannot be reached.
pub(super) const TRIES: u32 = 6;

/// The letters of all partitions, and who looks at them.
pub(super) struct Letters {
    pub(super) context: Context,
    pub(super) link: Link,
    pub(super) keys: Vec<Keys>,
    pub(super) now_ms: u64,
    pub(super) operator: Actor,
    connector: Connector,
}

/// Where the letters are that may fit, as of now: what is written later is not among them.
#[derive(Debug, Clone)]
pub(super) struct Places(Vec<(Keys, Stretch)>);

impl Places {
    /// One partition at a time.
    pub(super) fn each(&self) -> impl Iterator<Item = Self> {
        self.0.iter().map(|place| Self(vec![place.clone()]))
    }
}

impl Letters {
    pub(super) async fn open(context: Context) -> anyhow::Result<Self> {
        let redis = &context.config.redis;
        let mut link = redis_access::connect(redis).await?;
        let now_ms = control::now_ms(&mut link).await.map_err(|error| redis_access::unreachable(redis, &error))?;
        let keys = (0..redis.partitions.max(1)).map(|number| Keys::new(&redis.namespace, number)).collect();
        let connector = Connector::new(redis)?;
        Ok(Self { link, keys, now_ms, operator: this_operator(), connector, context })
    }

    /// One more link.
    pub(super) fn link(&self) -> Link {
        self.connector.link(false)
    }

    pub(super) fn error(&self, error: &RedisError) -> anyhow::Error {
        redis_access::unreachable(&self.context.config.redis, error)
    }

    pub(super) async fn places(&mut self, filter: &Filter) -> anyhow::Result<Places> {
        let mut places = Vec::new();
        for keys in self.keys.clone() {
            let newest = dead::newest_letter(&mut self.link, &keys).await.map_err(|error| self.error(&error))?;
            if let Some(stretch) = newest.and_then(|newest| filter.stretch(self.now_ms, newest)) {
                places.push((keys, stretch));
            }
        }
        Ok(Places(places))
    }

    /// Where the letter of this entry would be.
    pub(super) fn places_of(&self, entry: EntryId) -> Places {
        let stretch = Stretch { first: entry, last: entry };
        Places(self.keys.iter().map(|keys| (keys.clone(), stretch)).collect())
    }

    /// How many letters there are in all.
    pub(super) async fn count(&mut self) -> anyhow::Result<u64> {
        let mut count = 0;
        for keys in self.keys.clone() {
            count += dead::count_letters(&mut self.link, &keys).await.map_err(|error| self.error(&error))?;
        }
        Ok(count)
    }

    pub(super) fn scan(&self, places: &Places, order: Order) -> Scan {
        let (to, pages) = mpsc::channel(2);
        tokio::spawn(read(self.connector.link(false), places.clone(), order, to));
        Scan { pages }
    }

    /// Records what is about to be done, or was.
    pub(super) async fn record(&mut self, action: &str, what: &Value, count: u64) -> anyhow::Result<()> {
        let namespace = self.context.config.redis.namespace.clone();
        let recorded = self.operator.record(&mut self.link, &namespace, action, what, count).await;
        recorded.map_err(|error| self.error(&error))
    }
}

/// Pages on their way.
pub(super) struct Scan {
    pages: mpsc::Receiver<Result<Vec<Letter>, RedisError>>,
}

impl Scan {
    /// The next page, of one partition; `None` when all have been read.
    pub(super) async fn next(&mut self, letters: &Letters) -> anyhow::Result<Option<Vec<Letter>>> {
        self.pages.recv().await.transpose().map_err(|error| letters.error(&error))
    }

    /// Gives every letter that fits to `each`, until it says that it has enough.
    pub(super) async fn for_each(
        &mut self,
        letters: &Letters,
        filter: &Filter,
        mut each: impl FnMut(&Facts<'_>) -> anyhow::Result<Enough>,
    ) -> anyhow::Result<()> {
        while let Some(page) = self.next(letters).await? {
            for letter in &page {
                let facts = Facts::new(letter);
                if filter.wants(&facts) && each(&facts)? == Enough::Yes {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// Whether to read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Enough {
    Yes,
    No,
}

async fn read(mut link: Link, Places(places): Places, order: Order, to: mpsc::Sender<Result<Vec<Letter>, RedisError>>) {
    for (keys, stretch) in places {
        let mut reader = LetterReader::new(keys, stretch, order);
        let mut tries = 0;
        loop {
            match reader.next(&mut link).await {
                Ok(page) if page.is_empty() => break,
                Ok(page) => {
                    tries = 0;
                    if to.send(Ok(page)).await.is_err() {
                        return;
                    }
                }
                Err(error) if is_transient(&error) && tries < TRIES => {
                    tries += 1;
                    tokio::time::sleep(backoff(tries)).await;
                }
                Err(error) => {
                    let _ = to.send(Err(error)).await;
                    return;
                }
            }
        }
    }
}

/// How long to wait before that try: 12 s over all of them.
pub(super) fn backoff(tries: u32) -> Duration {
    Duration::from_millis(100 << tries.min(6))
}
