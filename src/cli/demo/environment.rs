//! The Redis that the demo uses: its own, or the configured one with a namespace of its own.

use crate::{
    cli::{HintExt, local_redis::LocalRedis},
    config::RedisConfig,
    contract::Partitions,
    operations::{Backend, namespace, redis_place},
};
use secrecy::SecretString;

pub(super) struct Environment {
    pub(super) redis: RedisConfig,
    own: Option<LocalRedis>,
    keep: bool,
}

impl Environment {
    /// Finds the configured Redis. Without one, starts a Redis.
    pub(super) async fn find(configured: &RedisConfig, keep: bool) -> anyhow::Result<Self> {
        let mut redis = RedisConfig { partitions: Partitions::ONE, ..configured.clone() };
        if redis.url_is_set {
            // Other programs may use it: the demo touches no key of theirs.
            redis.namespace = format!("demo-{:08x}", rand::random::<u32>());
            Backend::connect(&redis)
                .await
                .hint("redis.url is set, so the demo uses that; without it, it starts its own")?;
            return Ok(Self { redis, own: None, keep });
        }
        let own = LocalRedis::start(keep).await?;
        redis.url = vec![SecretString::from(own.url())];
        RedisConfig::default().namespace.clone_into(&mut redis.namespace);
        Ok(Self { redis, own: Some(own), keep })
    }

    /// The Redis in one line, for the demo's heading.
    pub(super) fn describe(&self) -> String {
        match &self.own {
            Some(own) if self.keep => {
                format!("{} on 127.0.0.1:{}, in {}", own.program(), own.port(), own.folder().display())
            }
            Some(own) => format!("{} on 127.0.0.1:{}, started for the demo", own.program(), own.port()),
            None => format!("{}, under the namespace {}", redis_place(&self.redis), self.redis.namespace),
        }
    }

    /// The command that opens this Redis in `redis-cli`.
    pub(super) fn redis_cli(&self) -> String {
        match &self.own {
            Some(own) => format!("redis-cli -p {}", own.port()),
            None => format!("redis-cli -u {}", redis_place(&self.redis)),
        }
    }

    /// The flags that make other commands use this Redis.
    pub(super) fn flags(&self) -> String {
        let namespace = match &self.own {
            Some(_) => String::new(),
            None => format!(" --namespace {}", self.redis.namespace),
        };
        format!("--redis-url {}{namespace}", redis_place(&self.redis))
    }

    /// What `--keep` leaves behind, and how to remove it.
    pub(super) fn left_behind(&self) -> Option<String> {
        match &self.own {
            _ if !self.keep => None,
            Some(own) => Some(format!(
                "Redis goes on, on port {}; to end it: redis-cli -p {} shutdown nosave; rm -r {}",
                own.port(),
                own.port(),
                own.folder().display()
            )),
            None => Some(format!("The keys of {} are left in Redis.", self.redis.namespace)),
        }
    }

    /// Removes the demo's Redis or keys, unless `--keep` was given.
    pub(super) async fn leave(self) {
        match self.own {
            Some(own) => own.stop().await,
            None if self.keep => {}
            None => {
                let cleaning = async {
                    let mut backend = Backend::connect(&self.redis).await?;
                    namespace::remove(&mut backend).await
                };
                // The demo ends in any case: if Redis is unreachable, the keys stay.
                let _ = tokio::time::timeout(self.redis.response_timeout * 5, cleaning).await;
            }
        }
    }
}
