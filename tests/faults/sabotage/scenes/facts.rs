//! Facts about each job, derived from the content of Redis.

use super::{Job, Stage};
use std::collections::{BTreeMap, BTreeSet};
use xco_worker::queue::{GROUP, Source};

type Fields = BTreeMap<String, String>;

/// Content of a key.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    Text(Vec<u8>),
    List(Vec<String>),
    /// Sorted alphabetically.
    Set(BTreeSet<String>),
    Sorted(BTreeMap<String, String>),
    Hash(Fields),
    Stream(Vec<(String, Fields)>),
}

/// A delivery that has not ended: its consumer and its idle time.
#[derive(Debug, Clone)]
pub(crate) struct Pending {
    consumer: String,
    idle_ms: u64,
}

/// Content of one partition, by the part of the key after its tag.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    keys: BTreeMap<String, (Content, bool)>,
    pending: BTreeMap<(String, String), Pending>,
}

/// Named facts of each job, and of the whole (with an empty name).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Facts(pub(crate) BTreeMap<String, BTreeMap<String, String>>);

impl Snapshot {
    pub(crate) async fn take(stage: &Stage) -> Self {
        let sample = &stage.keys.stats;
        let tag = &sample[..sample.len() - "stats".len()];
        let mut keys = BTreeMap::new();
        let mut pending = BTreeMap::new();
        let found: Vec<String> = stage.run(redis::cmd("KEYS").arg(format!("{tag}*"))).await;
        for key in found {
            let rest = key[tag.len()..].to_owned();
            let kind: String = stage.run(redis::cmd("TYPE").arg(&key)).await;
            let range = |name: &str| {
                let mut command = redis::cmd(name);
                command.arg(&key).arg(if name == "XRANGE" { "-" } else { "0" });
                command.arg(if name == "XRANGE" { "+" } else { "-1" });
                command
            };
            let content = match kind.as_str() {
                "list" => Content::List(stage.run(&range("LRANGE")).await),
                "set" => Content::Set(stage.run(redis::cmd("SMEMBERS").arg(&key)).await),
                "zset" => Content::Sorted(stage.run(range("ZRANGE").arg("WITHSCORES")).await),
                "hash" => {
                    // Recent buckets are not text.
                    let fields: Vec<(Vec<u8>, Vec<u8>)> = stage.run(redis::cmd("HGETALL").arg(&key)).await;
                    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
                    Content::Hash(fields.into_iter().map(|(name, value)| (text(name), text(value))).collect())
                }
                "stream" => Content::Stream(stage.run(&range("XRANGE")).await),
                _ => Content::Text(stage.run(redis::cmd("GET").arg(&key)).await),
            };
            if rest.starts_with("jobs:") || rest.starts_with("due:") {
                let mut ask = redis::cmd("XPENDING");
                ask.arg(&key).arg(GROUP).arg("-").arg("+").arg(1000);
                let rows: Vec<(String, String, u64, u64)> = stage.run(&ask).await;
                for (entry, consumer, idle_ms, _) in rows {
                    pending.insert((rest.clone(), entry), Pending { consumer, idle_ms });
                }
            }
            let life: i64 = stage.run(redis::cmd("PTTL").arg(&key)).await;
            keys.insert(rest, (content, life >= 0));
        }
        Self { keys, pending }
    }

    fn content(&self, key: &str) -> Option<&Content> {
        self.keys.get(key).map(|(content, _)| content)
    }

    pub(crate) fn entries(&self, key: &str) -> &[(String, Fields)] {
        match self.content(key) {
            Some(Content::Stream(entries)) => entries,
            _ => &[],
        }
    }

    pub(crate) fn field(&self, key: &str, field: &str) -> String {
        match self.content(key) {
            Some(Content::Hash(map) | Content::Sorted(map)) => map.get(field).cloned().unwrap_or_default(),
            _ => String::new(),
        }
    }

    /// Number of entries of a stream with this value in a field.
    pub(crate) fn count(&self, key: &str, field: &str, value: &str) -> usize {
        self.entries(key).iter().filter(|(_, fields)| fields.get(field).is_some_and(|found| found == value)).count()
    }

    pub(crate) fn begin_with<'a>(&'a self, start: &'a str) -> impl Iterator<Item = &'a str> {
        self.keys.keys().map(String::as_str).filter(move |key| key.starts_with(start))
    }

    /// Content of all keys that do not belong to one job.
    fn whole(&self) -> BTreeMap<String, String> {
        let per_job = [
            "jobs:",
            "due:",
            "completions",
            "dead",
            "edits",
            "delayed",
            "begun",
            "reply:",
            "id:",
            "ids",
            "waiting:",
            "held:",
        ];
        let mut facts = BTreeMap::new();
        for (key, (content, expires)) in &self.keys {
            let told = match content {
                // Times and names differ between runs.
                _ if key.starts_with("limit:") || key.starts_with("recent:") => "there".to_owned(),
                Content::Sorted(map) if key == "learned" || key.starts_with("runs") => format!("{:?}", map.keys()),
                Content::Hash(map) if key.starts_with("run:") => {
                    let times = ["started", "heartbeat"];
                    let told: Fields = map
                        .iter()
                        .filter(|(name, _)| !times.contains(&name.as_str()))
                        .map(|(a, b)| (a.clone(), b.clone()))
                        .collect();
                    format!("{told:?}")
                }
                Content::Hash(map) if key == "control" || key == "limits" => {
                    let version = if map.contains_key("v") { "a version" } else { "no version" };
                    let rules: Vec<_> = map.iter().filter(|(name, _)| *name != "v").collect();
                    format!("{rules:?}, {version}")
                }
                _ if per_job.iter().any(|start| key.starts_with(start)) || key.starts_with("index") => {
                    if key.starts_with("reply:") || key.starts_with("id:") || key.starts_with("index:") {
                        facts.insert(format!("expires {key}"), expires.to_string());
                    }
                    continue;
                }
                Content::Set(members) => format!("{members:?}"),
                Content::Hash(map) if key.starts_with("replay:") => format!("{:?}", map.get("answer")),
                Content::Hash(map) if key == "stats" || key.starts_with("batch:") => counts(map),
                Content::Text(bytes) => String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned(),
                content => format!("{content:?}"),
            };
            if told.is_empty() {
                continue;
            }
            let name = if key.starts_with("replay:") { "replay" } else { key };
            facts.insert(format!("expires {name}"), expires.to_string());
            facts.insert(name.to_owned(), told);
        }
        facts
    }

    /// The stored body of a delayed job.
    fn body(&self, job: &Job) -> String {
        let body = self.field("delayed:jobs", &job.origin);
        let as_it_was = format!("{}\n{}", job.state, job.text);
        match body.strip_prefix(r#"{"e":true,"#) {
            _ if body == as_it_was => "its own".to_owned(),
            Some(rest) if as_it_was.strip_prefix('{') == Some(rest) => "its own, cancelled".to_owned(),
            _ => body,
        }
    }

    /// All facts about one job.
    fn of(&self, job: &Job) -> BTreeMap<String, String> {
        let stream = format!("{}:{}", if job.source == Source::Due { "due" } else { "jobs" }, job.lane);
        let entry = job.entry.to_string();
        let place = (stream.clone(), entry.clone());
        let mut facts = BTreeMap::new();
        let mut fact = |name: &str, value: String| {
            facts.insert(name.to_owned(), value);
        };
        let here = self.entries(&stream).iter().filter(|(id, _)| *id == entry).count();
        fact("entry in its stream", here.to_string());
        fact("pending for", self.pending.get(&place).map_or(String::new(), |pending| pending.consumer.clone()));
        let long = self.pending.get(&place).is_some_and(|pending| pending.idle_ms > 60_000);
        fact("lease", if long { "run out" } else { "" }.to_owned());
        fact("completions", self.count("completions", "id", &job.id).to_string());
        let replies = match self.content(&format!("reply:{}", job.id)) {
            Some(Content::List(list)) => list.len(),
            _ => 0,
        };
        fact("replies", replies.to_string());
        fact("letters", self.count("dead", "id", &job.id).to_string());
        let children: usize =
            ["jobs:interactive", "jobs:bulk"].iter().map(|key| self.count(key, "parent", &job.id)).sum();
        fact("children", children.to_string());
        let back: usize = ["due:interactive", "due:bulk"]
            .iter()
            .flat_map(|key| self.entries(key).iter().map(move |found| (*key, found)))
            .filter(|(key, (id, fields))| {
                fields.get("job").is_some_and(|text| text.contains(&format!(r#""id":"{}""#, job.id)))
                    && !(*key == stream && *id == entry)
            })
            .count();
        fact("times back in its lane", back.to_string());
        fact("due", self.field("delayed", &job.origin));
        fact("delayed body", self.body(job));
        let waits: Vec<&str> =
            self.begin_with("waiting:").filter(|key| !self.field(key, &job.origin).is_empty()).collect();
        fact("waits in", waits.join(", "));
        let held: Vec<String> = self
            .begin_with("held:")
            .filter(|key| !self.field(key, &job.origin).is_empty())
            .map(|key| format!("{key} for {}", self.field(key, &job.origin)))
            .collect();
        fact("held by", held.join(", "));
        let mark = self.field("begun", &job.origin);
        fact("mark", mark.split('/').next().unwrap_or_default().to_owned());
        let values: Vec<String> = self
            .begin_with("index:")
            .map(|slice| self.field(slice, &job.id))
            .filter(|value| !value.is_empty())
            .collect();
        let own = Stage::holder(&job.origin);
        let mut held_by = Vec::new();
        for value in &values {
            let holder = value.split(' ').next().unwrap_or_default();
            // A replay's origin contains the time and a random number.
            let replayed = holder.starts_with('b') && holder.rsplit('-').next().is_some_and(|end| end.len() > 12);
            held_by.push(if replayed {
                "its replay"
            } else if holder == own {
                "it"
            } else {
                holder
            });
        }
        if held_by.contains(&"its replay") {
            // The slice of a replay is the present one, and may be another than the first job's.
            held_by.retain(|holder| *holder != "it");
        }
        if let Some(Content::Text(text)) = self.content(&format!("id:{}", job.id))
            && !held_by.contains(&"its replay")
        {
            held_by.push(if *text == job.origin.as_bytes() { "it, as before" } else { "another, as before" });
        }
        fact("its id is held by", held_by.join(", "));
        fact("its end is known", values.iter().any(|value| value.contains(' ')).to_string());
        fact("edits", self.count("edits", "letter", &entry).to_string());
        facts
    }
}

/// A count that was taken back is ignored.
fn counts(map: &Fields) -> String {
    let counted: Vec<String> =
        map.iter().filter(|(_, count)| *count != "0").map(|(name, count)| format!("{name} {count}")).collect();
    counted.join(", ")
}

impl Facts {
    pub(crate) fn of(snapshot: &Snapshot, jobs: &[Job]) -> Self {
        let mut facts: BTreeMap<_, _> = jobs.iter().map(|job| (job.id.clone(), snapshot.of(job))).collect();
        facts.insert(String::new(), snapshot.whole());
        Self(facts)
    }

    pub(crate) fn note(&mut self, job: &str, name: &str, value: &impl ToString) {
        self.0.entry(job.to_owned()).or_default().insert(name.to_owned(), value.to_string());
    }

    /// The value of a fact; empty if it is unknown.
    pub(crate) fn get(&self, job: &str, name: &str) -> &str {
        self.0.get(job).and_then(|facts| facts.get(name)).map_or("", String::as_str)
    }

    /// Number of jobs with this fact.
    pub(crate) fn jobs_with(&self, name: &str, value: &str) -> usize {
        self.0.iter().filter(|(job, _)| !job.is_empty()).filter(|(job, _)| self.get(job, name) == value).count()
    }
}
