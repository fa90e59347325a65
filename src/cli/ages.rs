//! Spans of time, for people.

pub(super) use crate::operations::age;
