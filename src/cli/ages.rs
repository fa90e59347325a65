//! Formats durations for people.

pub(super) use crate::operations::age;
